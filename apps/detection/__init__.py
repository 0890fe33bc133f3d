"""What the apps that find objects in images have in common."""
