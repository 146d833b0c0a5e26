"""A map of a library: photos that are alike lie together, in groups with names, linked to those most like them."""
