"""Phase 5 backtest: what publishers earned by event-level spend, against finance's spreadsheet, by month.

Event-level spend is what counts. Baseline rows explain a variance, and never replace the spend.
"""
