"""`vitals show`: one image, what the studies do to it and what a network looks at and says, as one picture for a slide."""
