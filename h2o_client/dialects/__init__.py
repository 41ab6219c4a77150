"""What each dialect of server calls things; one pure file each, named by its first version."""
