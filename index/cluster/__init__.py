"""Work spread over the machines of a Ray cluster; nothing of it is imported without the setting."""
