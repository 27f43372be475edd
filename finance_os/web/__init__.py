"""TOP FLOOR. One FastAPI app: pages that can be read, and the receiver of webhooks. No page can do anything."""
