"""The bundle: manifest, vocabulary and the folder that holds them."""
