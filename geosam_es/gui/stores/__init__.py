"""Opening and filling stores, the choice of a decoder, and the thread that reads from stores."""
