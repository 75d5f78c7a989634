"""What a run leaves on the disk and says on the screen, and how it goes on."""
