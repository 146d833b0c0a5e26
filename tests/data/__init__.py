"""Files that tests read, and what made them."""
