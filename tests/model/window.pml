/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can a standing query count a host twice in one window?
 *
 * Agents 1 and 2 ask whom they hold for a window that has closed, at any time,
 * each child once; the root adds up what they have.  3 moves between them and
 * keeps its child, 4 moves among all three.  3 collects the window as well, and
 * what it has then is what it answers for good.  The window ends when an
 * agent's own clock shows END; the clocks of 3 and 4 go as they like.  There is
 * no as_of: an agent has its lease, and when it took it by its own clock.  Only
 * its latest lease counts; so the numbers of leases are left out, and par[] says
 * who holds that one.
 *
 *   RULE=0  an agent answers under any lease                             twice
 *   RULE=1  the overlay's: only under a lease that is older than the
 *           window's end                                                    ok
 *   RULE=2  as 1, "older" by the highest that its clock ever showed         ok
 *
 *   OPEN    it answers before its clock has closed the window            twice
 *   SAME    a lease taken at the very end of the window will do          twice
 *   STEP    clocks may be set back               with RULE=1: twice; RULE=2: ok
 *   TEETH   a window with both agents in it is an error
 */
#ifndef RULE
#define RULE 1
#endif
#ifndef GRANTS
#define GRANTS 3
#endif
#define END  1
#define LAST 1 /* later than that makes no difference */

byte par[5];    /* who holds the lease that counts; 0: detached */
byte since[5];  /* when it was taken */
byte clock[5], highest[5];
byte cnt[5];
byte grants;
bool set_back[5];
bool made, has_4; /* what 3 has */
hidden byte twice, both;

proctype Agent(byte me)
{
	byte to;

	do
	:: d_step { clock[me] < LAST ->
		clock[me]++;
		if
		:: clock[me] > highest[me] -> highest[me] = clock[me]
		:: else
		fi }
#ifdef STEP
	:: d_step { !set_back[me] && clock[me] > 0 ->
		set_back[me] = true;
		clock[me]-- }
#endif
	:: atomic { to == 0 && grants < GRANTS ->
		grants++;
		par[me] = 0;
		if
		:: to = 1
		:: to = 2
		:: me == 4 && par[3] != 0 -> to = 3
		fi }
	:: d_step { to != 0 ->
		par[me] = to;
		since[me] = (RULE == 2 -> highest[me] : clock[me]);
		to = 0 }
	:: to == 0 -> break
	od
}

/* p asks c; 3 asks 4 for its own answer. */
proctype Ask(byte p, c)
{
	bool yes;

end:	d_step {
		p != 3 || clock[3] >= END;
		yes = par[c] == p;
#ifndef OPEN
		yes = yes && clock[c] >= END;
#endif
#if defined(SAME)
		yes = yes && since[c] <= END;
#elif RULE >= 1
		yes = yes && since[c] < END;
#endif
		if
		:: p == 3 && !made ->
			made = true;
			has_4 = yes
		:: p != 3 && yes ->
			cnt[c]++;
			if
			:: c == 3 ->
				made = true; /* of itself alone, if need be */
				cnt[4] = cnt[4] + has_4
			:: else
			fi
		:: else
		fi;
		twice = cnt[3] > 1 || cnt[4] > 1;
		assert(!twice);
#ifdef TEETH
		both = cnt[3] == 1 && cnt[4] == 1;
		assert(!both);
#endif
		yes = false
	}
}

init
{
	atomic {
		par[3] = 1;
		par[4] = 3;
		run Agent(3);
		run Agent(4);
		run Ask(3, 4);
		run Ask(1, 3);
		run Ask(1, 4);
		run Ask(2, 3);
		run Ask(2, 4)
	}
}
