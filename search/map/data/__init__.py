"""What the page of a map is made of, and the words that clusters may be called by."""
