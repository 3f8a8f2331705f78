"""What clients reach over HTTP: the hosted API, the page and the description."""
