"""Pages and tables for people: what a run did, what a store holds, where the paper's table stands."""
