"""Where images are made. Every executor is the same generator of records; the driver alone writes the database."""
