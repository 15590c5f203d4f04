"""The pages. Each authorises itself, asks for its data, and composes charts, tables and sentences."""
