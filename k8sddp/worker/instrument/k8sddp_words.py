"""The words of the page that a rank shares with its worker, and the numbers in them: one table for both.

Both sides take them from here: the rank by this module's bare name, the worker (ranks/rank_page.py) by its full one.
So this module imports nothing. Each word is an unsigned number of eight bytes; times are ns of CLOCK_MONOTONIC. Who
changes what a word means gives the page another VERSION: one that is not the reader's says nothing.
"""

VERSION = 2

LAYOUT = 0  # VERSION of the writer
PID = 1  # of the rank, written last when it begins to count: 0 means that nobody counts
STEP = 2  # optimizer steps that have ended
FORWARD_ENTERED = 3  # calls of DDP's forward
FORWARD_LEFT = 4  # and returns from it, by an exception too
LAST_STEP = 5  # when the last step ended, or the rank began to count
STEP_TIME = 6  # from the end of the first step to the end of the last: what comes before the first is start-up
STARTED = 7  # when the rank began to count
GROUP = 8  # of the default process group: one of the three below
BACKWARD_ENTERED = 9  # the outermost calls of the autograd engine
BACKWARD_LEFT = 10
COLLECTIVE = 11  # what it is inside: a number of CALLS, 0 for none
COLLECTIVES = 12  # entered so far, each by its outermost call
SINCE = 13  # when it entered the outermost of collective, backward and init_process_group; 0 outside
BATCHES_ASKED = 14  # calls for the next batch of a DataLoader
BATCHES_GOT = 15  # and returns from them, at the end of the data too
OWN_TIME = 16  # of all steps but the first: see k8sddp_page
OWN_STEPS = 17  # steps in OWN_TIME

NO_GROUP, JOINING, JOINED = range(3)  # not asked for; inside init_process_group; formed

WORDS = 18
SIZE = 8 * WORDS

# What a rank may wait in for others, by its place: the functions of torch.distributed.distributed_c10d (2.4 to 2.15)
# that are collectives, or groups being made; a new name goes to the end, an unknown number is shown as "collective".
_C10D = (
    "all_gather all_gather_coalesced all_gather_into_tensor all_gather_object all_gather_single all_reduce"
    " all_reduce_coalesced all_to_all all_to_all_single barrier batch_isend_irecv broadcast broadcast_object_list"
    " destroy_process_group gather gather_into_tensor gather_object gather_single irecv isend monitored_barrier"
    " new_group new_subgroups new_subgroups_by_enumeration recv recv_object_list reduce reduce_scatter"
    " reduce_scatter_single reduce_scatter_tensor scatter scatter_object_list send send_object_list shrink_group"
    " split_group _all_gather_base _reduce_scatter_base"
)
# and the methods of classes: Work (what async_op=True returns), and DDP's constructor and its sync of buffers
METHODS = ("Work.wait", "DistributedDataParallel", "DistributedDataParallel.sync_buffers")
FUNCTIONS = tuple(_C10D.split())
CALLS = ("", *FUNCTIONS, *METHODS)
