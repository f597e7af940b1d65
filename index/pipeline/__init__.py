"""From a file to a searchable recording, stage by stage."""
