"""Sessions in an SQLite database, which the processes of one machine share."""
