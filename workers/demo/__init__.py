"""The main job on sample quotes, with disorder switched on, and an audit of what came out."""
