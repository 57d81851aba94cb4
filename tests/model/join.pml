/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can moves that overlap break the tree?
 *
 * Four agents: 0 is the root, 1 and 2 are its children, 3 is a child of 1.  Any
 * of them but the root may ask any other to become its parent, several at a
 * time, MAXMOVES moves in all.  After each commit every agent must reach a root
 * (VAR 5 and 6: or a detached agent) by the edges in use: no cycle.
 *
 *   VAR=1  the new parent looks at the ancestors that it remembers        cycle
 *   VAR=2  as 1, and who is moving itself refuses joiners                 cycle
 *   VAR=3  the root grants one move at a time, along the real path           ok
 *   VAR=4  as 3; a mover may stall and its grant be taken back, a commit
 *          needs the grant that is open                                      ok
 *   VAR=5  the overlay's: the mover detaches first, the request climbs the
 *          edges in use a hop at a time, the commit looks at the mover's own
 *          state only, nothing is locked                                     ok
 *   VAR=6  as 5 with two trees, 0 with 1 and 2 with 3: a root may resign and
 *          join the other; refused, it is a root again                       ok
 *
 * VAR 1 and 2 are controls: two moves are enough (2: 1 goes under 2 while 2
 * goes under 3, a child of 1).  NODETACH (5, 6): the mover keeps its parent
 * until it commits, and the cycle is back.  NOFENCE (4): a commit that does not
 * compare the grant.  TEETH: a committed move is an error.
 *
 * Not here: the messages of a move and what may happen to them (grant.pml).
 */
#ifndef VAR
#define VAR 1
#endif
#ifndef MAXMOVES
#if VAR == 6
#define MAXMOVES 3
#else
#define MAXMOVES 4
#endif
#endif
#define N    4
#define NONE 15 /* no parent */

byte par[N];       /* the parent that each agent uses */
byte know[N];      /* ancestors that it remembers, a bit each; with itself */
bool busy[N];      /* it is moving */
bool root[N];
byte lock = NONE;  /* whose grant is open */
byte grant = 0;    /* number of the latest grant */
byte moves = 0;
hidden byte cycle, moved, i_, x_, k_;

inline check_tree()
{
	d_step {
		i_ = 0;
		do
		:: i_ < N ->
			x_ = i_;
			k_ = 0;
			do
			:: x_ != NONE && !root[x_] && k_ < N ->
				x_ = par[x_];
				k_++
			:: else -> break
			od;
#if VAR >= 5
			cycle = x_ != NONE && !root[x_];
#else
			cycle = x_ == NONE || !root[x_];
#endif
			assert(!cycle);
			i_++
		:: else -> break
		od
	}
}

inline committed()
{
#ifdef TEETH
	moved = true;
	assert(!moved)
#else
	skip
#endif
}

#if VAR <= 4
proctype Agent(byte me)
{
	byte t, x, k, g;
	bool ok;

	do
	:: moves < MAXMOVES ->
		atomic {
			moves++;
			select(t : 0 .. 3);
			if
			:: t == me || t == par[me] -> moves--; goto next
			:: else
			fi
		}
#if VAR >= 3
		atomic {
			lock == NONE;
			lock = me;
			grant++;
			g = grant
		}
#endif
		busy[me] = true;
		atomic { /* the request is at t, which decides */
#if VAR == 1
			ok = ((know[t] >> me) & 1) == 0;
#elif VAR == 2
			ok = ((know[t] >> me) & 1) == 0 && (t == 0 || !busy[t]);
#else
			x = t;
			k = 0;
			ok = true;
			do
			:: x != 0 && k < N ->
				if
				:: x == me -> ok = false
				:: else
				fi;
				x = par[x];
				k++
			:: else -> break
			od;
			x = 0;
			k = 0;
#endif
		}
#if VAR == 4
		if /* a stall, or a root that waits no longer */
		:: true -> skip
		:: atomic { lock == me -> lock = NONE }
		fi;
#endif
		atomic { /* the answer is back */
#if VAR == 4 && !defined(NOFENCE)
			ok = ok && lock == me && grant == g;
#endif
			if
			:: ok ->
				par[me] = t;
				know[me] = know[t] | (1 << me);
				check_tree();
				committed()
			:: else
			fi;
			busy[me] = false;
#if VAR >= 3
			if
			:: lock == me -> lock = NONE
			:: else
			fi
#endif
		}
next:		skip
	:: moves >= MAXMOVES -> break
	:: know[me] != (know[par[me]] | (1 << me)) -> /* it is told */
		know[me] = know[par[me]] | (1 << me)
	od
}
#else
proctype Agent(byte me)
{
	byte t, x, k;
	bool ok, was;

	do
	:: moves < MAXMOVES ->
		atomic {
			moves++;
			select(t : 0 .. 3);
			if
			:: t == me -> moves--; goto next
			:: else
			fi;
			was = root[me];
#ifndef NODETACH
			root[me] = false;
			par[me] = NONE
#endif
		}
		x = t;
		k = 0;
		ok = false;
		do /* the request climbs; each hop is a step */
		:: atomic { x == me || k >= N -> break }
		:: atomic { x != me && k < N && root[x] -> ok = true; break }
		:: atomic { x != me && k < N && !root[x] && par[x] == NONE ->
				break }
		:: atomic { x != me && k < N && !root[x] && par[x] != NONE ->
				x = par[x]; k++ }
		od;
		atomic { /* the answer is back, any time later */
			if
			:: ok ->
				par[me] = t;
				check_tree();
				committed()
			:: !ok && was -> root[me] = true
			:: else
			fi;
			x = 0;
			k = 0;
			ok = false;
			was = false
		}
next:		skip
	:: moves >= MAXMOVES -> break
	od
}
#endif

init
{
	atomic {
		par[0] = NONE;
		root[0] = true;
		par[3] = 1;
		know[0] = 1;
		know[1] = 3;
		know[2] = 5;
		know[3] = 11;
#if VAR == 6
		par[2] = NONE;
		root[2] = true;
		par[3] = 2;
		run Agent(0);
#endif
		run Agent(1);
		run Agent(2);
		run Agent(3)
	}
}
