"""Content vectors that travel with fedmem, and the commands that derive them."""
