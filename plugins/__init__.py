"""Everything replaceable, written exactly as a third party would write it."""
