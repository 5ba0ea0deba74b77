"""Jobs: the work on one slide or one block, done in any process."""
