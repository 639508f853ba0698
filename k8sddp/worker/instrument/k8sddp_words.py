"""The words of the page that a rank shares with its worker: one table for both.

Both sides take the numbers from here: the rank by this module's bare name, the worker (ranks/rank_page.py) by its full
one. So this module imports nothing. Each word is an unsigned number of eight bytes; times are ns of CLOCK_MONOTONIC.
"""

PID = 0  # of the rank, written last when it begins to count: 0 means that nobody counts
STEP = 1  # optimizer steps that have ended
FORWARD_ENTERED = 2  # calls of DDP's forward
FORWARD_LEFT = 3  # and returns from it, by an exception too
LAST_STEP = 4  # when the last step ended, or the rank began to count
STEP_TIME = 5  # from the end of the first step to the end of the last: what comes before the first is start-up
STARTED = 6  # when the rank began to count
GROUP = 7  # of the default process group: one of the three below

NO_GROUP, JOINING, JOINED = range(3)  # not asked for; inside init_process_group; formed

WORDS = 8
SIZE = 8 * WORDS
