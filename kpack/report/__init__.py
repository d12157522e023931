"""What is in an archive, as a page for people: `kpack report`. docs/report.md says what it shows."""
