"""GROUND FLOOR. What others may watch this program by: metrics, and structured logs. No personal data in either."""
