"""How a localizer is fitted: the step, schedules, callbacks and what a run leaves behind."""
