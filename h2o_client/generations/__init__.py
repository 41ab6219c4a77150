"""What each generation of server calls things; one pure file each, named by its first version."""
