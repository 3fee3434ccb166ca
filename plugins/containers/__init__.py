"""Files whose content is compressed."""
