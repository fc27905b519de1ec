"""What people and other programs reach over HTTP: the one-click page, the consent page, the API. Needs the extra `web`."""
