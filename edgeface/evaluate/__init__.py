"""`edgeface evaluate`: how good the parts are, held against the truth."""
