"""The lab's report: three trainings, measured side by side, as a page that one looks at."""
