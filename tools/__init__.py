"""Small programs that maintain the repository; not needed to use it."""
