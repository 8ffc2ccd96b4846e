//! Seeds that once found a bug, each named after it.
//!
//! A seed means something else as soon as the generator changes; what stays is that these runs hold. The bug itself
//! is kept by the test that its fix came with.

use cairn_sim::fleet::run;

fn check(seed: u64) {
    let report = run(seed);
    assert!(report.violation.is_none(), "{report}");
}

/// The fix's own test: `row_f_a_torn_first_write_in_a_recycled_file_leaves_it_unused`.
#[test]
fn seed_4_a_recycled_segment_whose_first_write_is_torn_is_not_what_it_was_before() {
    check(4);
}

/// Two bugs in one run: snapshots followed each other without a pause once a segment held more than calls for one
/// (now the rule `chores`), and the simulated world woke members for deadlines that had been planned anew.
#[test]
fn seed_1960248057_snapshots_are_as_rare_as_their_limit_says() {
    check(1_960_248_057);
}

/// A wrong accusation: a member paused with the last vote in its mailbox led a term that was over, and owed what a
/// later leader had committed.
#[test]
fn seed_1700441520_a_leader_of_the_past_owes_what_was_committed_before_its_successor() {
    check(1_700_441_520);
}

/// The fix's own test: `a_lost_append_is_sent_again_however_many_reads_there_are`.
#[test]
fn seed_195_what_was_lost_is_sent_again_however_many_reads_there_are() {
    check(195);
}

/// The fix's own test: `a_leader_that_nobody_answers_gives_way_after_a_timeout_and_a_heartbeat`.
#[test]
fn seed_197_a_leader_that_is_cut_off_one_way_gives_way_in_time() {
    check(197);
}

/// A wrong accusation: the leader had just been cut off for good.
#[test]
fn seed_778_a_cut_that_stays_excuses_what_a_cut_excuses() {
    check(778);
}

/// A wrong accusation: the clock that jumped was of a leader that was added after the promise.
#[test]
fn seed_809_the_clock_of_a_later_member_counts() {
    check(809);
}

/// A leader of two removed itself, was the only one to know it, and refused the other its vote for an entry that could
/// not be committed any more. Now the answer to a pre-vote also tells what is committed.
#[test]
fn seed_1114_who_removed_itself_does_not_keep_the_other_from_leading() {
    check(1114);
}

/// Three voters became two, one of whom had an empty disk and voted for nobody. The fix's own tests are those of
/// `replica/vouch.rs`.
#[test]
fn seed_2570_the_others_vouch_for_a_member_that_does_not_know_what_it_promised() {
    check(2570);
}

/// A leader's words that had been under way for long made a member believe that it was not itself.
#[test]
fn seeds_1215_and_1828_late_words_are_not_believed() {
    check(1215);
    check(1828);
}

/// A member that lost its disk twice took the end of the first time for the end of the second.
#[test]
fn seed_1348_what_was_forgiven_once_is_not_forgiven_twice() {
    check(1348);
}

/// The fix's own test: `the_time_is_logged_every_second_while_there_are_leases`.
#[test]
fn seed_2488_what_is_refused_does_not_keep_the_time_out_of_the_log() {
    check(2488);
}

/// A wrong accusation: the clock of one leader jumped, and then that of the next.
#[test]
fn seed_2750_the_jumps_of_two_leaders_add_up() {
    check(2750);
}

/// A leader's snapshot was on the medium, and the word in the log that it restarts behind it was lost; later entries
/// followed, and when the snapshot was damaged the one before it seemed to lead up to them.
#[test]
fn seed_56_the_log_says_that_it_restarts_behind_a_leaders_snapshot() {
    check(56);
}

/// A member that was forgotten while it was down took the news for a new loss.
#[test]
fn seed_328_who_was_forgotten_waits_until_its_log_says_so() {
    check(328);
}

/// A disk was set back within one life; the others vouched, and so the leader was not told to forget what it knew.
#[test]
fn seed_695_who_is_vouched_for_still_tells_the_leader_that_it_forgot() {
    check(695);
}

/// A word of having forgotten came late: the cluster forgot a start that it knew already, and that was not said again.
#[test]
fn seed_10_a_start_that_was_forgotten_again_is_published_again() {
    check(10);
}

/// A snapshot from before the news that a member was forgotten still knew it.
#[test]
fn seed_1121_what_was_before_the_news_does_not_answer_it() {
    check(1121);
}

/// A wrong accusation: of two equal requests at different members the first answer was traced to the other's entry.
#[test]
fn seed_1507_what_a_leader_proposed_for_its_own_client_is_nobody_elses() {
    check(1507);
}

/// A put was said twice to a leader that had no room for the one and room for the other: it was refused, and done.
#[test]
fn seed_1867_what_is_refused_is_refused_in_every_copy() {
    check(1867);
}

/// A wrong accusation: a member that was down and that nobody knew yet was taken for one that is known again.
#[test]
fn seed_2635_who_is_down_and_unknown_has_not_come_back() {
    check(2635);
}

/// A late word was as of an entry that was in the log, and not known to be committed after the restart.
#[test]
fn seed_3501_late_words_are_not_believed_where_the_log_goes_further() {
    check(3501);
}

/// A follower's renewal of a lease was refused for lack of room, where the leader's own would not have been.
#[test]
fn seed_6839_renewals_find_room_whoever_gathered_them() {
    check(6839);
}

/// A wrong accusation: a learner's disk was set back, its next start was in the log, and only then did it hear of the start
/// that it did not know.
#[test]
fn seed_14536_who_hears_late_of_its_loss_may_say_so() {
    check(14536);
}

/// A wrong accusation: a disk that stood still before a leader began to lead still did so three seconds after.
#[test]
fn seed_7113_what_disturbs_one_leader_disturbs_the_next() {
    check(7113);
}
