"""Which engine hears and which thinks: chosen, loaded, downloaded."""
