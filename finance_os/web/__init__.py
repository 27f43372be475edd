"""TOP FLOOR. One FastAPI app: pages that can be read, and nothing that can be done."""
