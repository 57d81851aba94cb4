/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can a query count a host twice, or call an answer complete that is not?
 *
 * Agents: 0 is the root, 1 and 2 are its children, 3 is a leaf that moves
 * between them while the root's query runs.  cnt[i] is how often the value of
 * agent i is in the answer.
 *
 *   FIX=0  all that arrives counts; complete: each known child answered   wrong
 *   FIX=1  as 0, and an agent answers a query id once                     wrong
 *   FIX=2  as 1; complete: the contributors are the members, and no
 *          membership number changed on the way                              ok
 *   FIX=3  the overlay's: a parent asks under the lease that it holds for the
 *          child; the child answers only under its lease, and only if that is
 *          not above as_of, the number that the root read first; who moves or
 *          restarts drops its lease before it asks for the next.  No query id
 *          is remembered: the lease alone has to do                          ok
 *   FIX=4  as 3; the mover keeps its old lease until it has the new one   twice
 *   FIX=5  as 3; the child does not compare its lease with as_of          twice
 *
 * TEETH (2, 3): a complete answer is an error.
 *
 * Not here: a deeper tree, several movers, a second root, retries, queries that
 * share a traversal (ask.pml).
 */
#ifndef FIX
#define FIX 0
#endif
#ifndef MAXNUM
#define MAXNUM 4 /* grants in all; the first is agent 3's first lease */
#endif

byte cnt[4];
bool complete;
hidden byte twice, wrong;

#if FIX <= 2
byte par3 = 1; /* the parent of agent 3 */
byte epoch;    /* counts its moves */
byte e_start;
bool answered3, stale;

proctype Mover()
{
	do
	:: epoch < MAXNUM - 1 ->
		atomic {
			par3 = 3 - par3;
			epoch++
		}
	:: break
	od
}

inline ask(p) /* p asks its children as it sees them now */
{
	atomic {
		cnt[p]++;
		if
		:: par3 == p ->
#if FIX >= 1
			if
			:: !answered3 ->
				answered3 = true;
				cnt[3]++
			:: else
			fi
#else
			cnt[3]++
#endif
		:: else
		fi
	}
	if
	:: epoch != e_start -> stale = true
	:: else
	fi
}
#else
byte number = 1; /* of the root's latest grant */
byte lease3 = 1; /* what agent 3 answers under; 0: detached */
byte held[3];    /* what each parent believes to hold for it; 0: nothing */
byte as_of;
byte done;       /* parents that have answered */

proctype Mover()
{
	byte to, n;

	do
	:: number < MAXNUM ->
#if FIX != 4
		lease3 = 0; /* or it crashed */
#endif
		if /* the same parent again, too */
		:: to = 1
		:: to = 2
		fi;
		atomic {
			number++;
			n = number
		}
		held[to] = n; /* the old parent keeps its stale lease */
		lease3 = n
	:: break
	od
}

proctype Ask(byte p)
{
	byte l;

	cnt[p]++;
	l = held[p];
	if
	:: l != 0 ->
		atomic { /* any time later the request is at agent 3 */
			if
#if FIX == 5
			:: lease3 == l -> cnt[3]++
#else
			:: lease3 == l && l <= as_of -> cnt[3]++
#endif
			:: else
			fi
		}
	:: else
	fi;
	done++
}
#endif

proctype Root()
{
	cnt[0]++;
#if FIX <= 2
	e_start = epoch;
	if
	:: ask(1); ask(2)
	:: ask(2); ask(1)
	fi;
#else
	as_of = number;
	run Ask(1);
	run Ask(2);
	done == 2;
#endif
#if FIX <= 1
	complete = true;
#elif FIX == 2
	complete = cnt[0] == 1 && cnt[1] == 1 && cnt[2] == 1 && cnt[3] == 1 &&
		   !stale;
#else
	/* as many as expected; the digest would hide a wrong rule here */
	complete = cnt[0] + cnt[1] + cnt[2] + cnt[3] == 4;
#endif
	d_step {
		twice = cnt[0] > 1 || cnt[1] > 1 || cnt[2] > 1 || cnt[3] > 1;
		assert(!twice);
		wrong = complete && cnt[3] != 1;
		assert(!wrong)
	}
#ifdef TEETH
	assert(!complete)
#endif
}

init
{
	atomic {
#if FIX >= 3
		held[1] = 1;
#endif
		run Mover();
		run Root()
	}
}
