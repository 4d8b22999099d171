"""What errors and reports tell people to type, typed."""
