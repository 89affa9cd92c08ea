"""Networks behind one contract: doors to libraries, tiny nets of ours, and their files."""
