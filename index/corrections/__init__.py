"""What people correct of a transcript: sentences and speakers, with a history that undoes."""
