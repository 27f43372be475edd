"""The vendors: one room each, which declares its objects and how a window of them is read."""
