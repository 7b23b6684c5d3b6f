"""Opening stores, encoding while clicking, and the thread that reads from them."""
