/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A move message by message, and what may happen to the messages.
 *
 * Agents: 0 is the root, 1 and 2 are its children, 3 is a child of 1.  A mover
 * detaches and asks an acceptor; the request climbs from there to the root, a
 * hop a message; the root numbers the grant, the acceptor keeps a slot for the
 * mover and hands it on, the mover commits.  Any message may be late or never
 * arrive; meanwhile the mover may ask somebody else; an acceptor may forget
 * whoever is not under its lease.  FAULTS of these besides: a request comes
 * twice, a parent is lost, an agent crashes and comes back detached.  With CALM
 * and the moves used up, nothing is lost any more: who is not held by its
 * parent detaches, who is detached asks the root.
 *
 *   no cycle at any time                                                !cycle
 *   no lease that is not above all that the agent had               !goes_back
 *   no two agents under one lease                                      !shared
 *   no more children and slots than there is room for                !overfull
 *   CALM: after ASKS requests each agent is held, up to one root         !late
 *
 * ROOTS=2: agent 1 is a root as well, of a higher term, and has 3.  Any of the
 * two may resign and ask, and be a root again while it is detached.
 *
 * What may be left out, and what is found then:
 *
 *   NODETACH   the mover keeps parent and lease until it commits         cycle
 *   NONONCE    the answer to an older request will do                    cycle
 *   NOTOP      a lease will do that is below one that it had         goes_back
 *   OLDSTATE   a restart resumes the lease that it was started with      cycle
 *   NOSLOT     room is looked at when the request comes, not the grant
 *                                                                     overfull
 *   REUSETERM  a root that crashed begins its term again                shared
 *   AMNESIA    an agent that crashed has forgotten the highest epoch; with
 *              one root all is well                                  goes_back
 *   NOSEEN     a root does not care what epoch the mover has seen         late
 *   TERMONLY   it goes above a higher term, but not above the same term of
 *              another root: nobody who had a lease of that one takes its
 *              grants                                                     late
 *   NODEEP     with LEVELS, a limit on depth that is looked at when a grant
 *              is made: moves that overlap make deeper trees all the same, and
 *              nobody leaves when it finds itself too deep                late
 *   TEETH      a committed move is an error
 *
 * One process; each event is one atomic step.
 */
#ifndef ROOTS
#define ROOTS 1
#endif
#ifndef MAXMOVES
#define MAXMOVES 3
#endif
#define MESSAGES 2 /* under way at a time */
#ifndef FAULTS
#define FAULTS 1
#endif
#define N    4
#define NONE 15
#define ROOM  1 /* children of an agent that is no root */
#define ASKS  8 /* requests in the calm that are enough for all */
#define DEPTH 2 /* with LEVELS */

#define FREE   0
#define CLIMBS 1 /* a request on its way to `at` */
#define GIVEN  2 /* a grant on its way to the acceptor */
#define HANDED 3 /* and to the mover */

typedef message {
	byte kind, mover, to, nonce, at, from, under, lease;
#if ROOTS == 2
	byte seen;
#endif
#ifdef LEVELS
	byte hops, height;
#endif
};

message m[MESSAGES];
byte par[N];      /* the parent that each agent uses */
byte lease[N];    /* 0: detached, or a root */
byte top[N];      /* the highest it remembers to have held */
byte ever[N];     /* the highest it did hold */
byte nonce[N];    /* of its latest request */
bool root[N];
byte held[N * N]; /* [parent * N + child]: slot or child, by lease */
byte number[2];   /* of a root's latest grant */
byte moves, faults, asks;
bool over;
#if ROOTS == 2
byte term[2];     /* a candidate's own */
byte seen[N];     /* the highest epoch heard of */
#define LEASE(r) (term[r] * 32 + (r) * 16 + number[r])
#define FIRST(r, n) ((r + 1) * 32 + (r) * 16 + (n))
#else
#define LEASE(r) number[r]
#define FIRST(r, n) (n)
#endif
hidden byte cycle, goes_back, shared, overfull, deep, late, moved;
hidden byte i_, x_, k_, h_;

#define DETACHED(x) (!root[x] && par[x] == NONE)
#define HELD(x)     (root[x] || (par[x] != NONE && \
				 held[par[x] * N + (x)] == lease[x]))
#define FORGETS(q, x) (held[(q) * N + (x)] != lease[x])
#define ABOUT(j, x) (m[j].kind != FREE && m[j].mover == (x))
#define ROOM_FOR_MESSAGE (m[0].kind == FREE || m[1].kind == FREE)
#define WAITS(x)         (ABOUT(0, x) || ABOUT(1, x))
#define SILENCE          (m[0].kind == FREE && m[1].kind == FREE)

/* From an agent up to another, or to where the edges end: x_ after k_ hops. */
inline climb(low, high)
{
	x_ = low;
	k_ = 0;
	do
	:: x_ != high && x_ != NONE && !root[x_] && k_ < N ->
		x_ = par[x_];
		k_++
	:: else -> break
	od
}

inline check_tree()
{
	i_ = 0;
	do
	:: i_ < N ->
		climb(i_, NONE);
		cycle = x_ != NONE && !root[x_];
		assert(!cycle);
		i_++
	:: else -> break
	od
}

inline count_children(q, x) /* but x; to k_ */
{
	i_ = 0;
	k_ = 0;
	do
	:: i_ < N ->
		k_ = k_ + (i_ != x && held[q * N + i_] != 0);
		i_++
	:: else -> break
	od
}

inline clear(j)
{
	m[j].kind = FREE;
	m[j].mover = 0;
	m[j].to = 0;
	m[j].nonce = 0;
	m[j].at = 0;
	m[j].from = 0;
	m[j].under = 0;
	m[j].lease = 0;
#if ROOTS == 2
	m[j].seen = 0;
#endif
#ifdef LEVELS
	m[j].hops = 0;
	m[j].height = 0;
#endif
}

/* The request was granted: back to the acceptor. */
inline give_back(j, l)
{
	m[j].lease = l;
	m[j].kind = GIVEN;
	m[j].at = 0;
	m[j].from = 0;
	m[j].under = 0;
#if ROOTS == 2
	m[j].seen = 0;
#endif
#ifdef LEVELS
	m[j].hops = 0;
	m[j].height = 0;
#endif
}

inline copy(j, k)
{
	m[k].kind = m[j].kind;
	m[k].mover = m[j].mover;
	m[k].to = m[j].to;
	m[k].nonce = m[j].nonce;
	m[k].at = m[j].at;
	m[k].from = m[j].from;
	m[k].under = m[j].under;
	m[k].lease = m[j].lease;
#if ROOTS == 2
	m[k].seen = m[j].seen;
#endif
#ifdef LEVELS
	m[k].hops = m[j].hops;
	m[k].height = m[j].height;
#endif
}

inline detach(x)
{
	root[x] = false;
	par[x] = NONE;
	lease[x] = 0
}

inline ask(x, q)
{
#ifdef LEVELS
	i_ = 0;
	h_ = 0;
	do
	:: i_ < N ->
		climb(i_, x);
		if
		:: x_ == x && k_ > h_ -> h_ = k_
		:: else
		fi;
		i_++
	:: else -> break
	od;
#endif
#ifndef NODETACH
	detach(x);
#endif
	nonce[x]++;
	j = 0;
	do
	:: m[j].kind != FREE -> j++
	:: else -> break
	od;
	m[j].kind = CLIMBS;
	m[j].mover = x;
	m[j].to = q;
	m[j].nonce = nonce[x];
	m[j].at = q;
	m[j].from = NONE;
#if ROOTS == 2
	m[j].seen = seen[x];
#endif
#ifdef LEVELS
	m[j].height = h_;
#endif
	j = 0
}

/* Some root: it takes the place above all that it heard of. */
inline take_over(x)
{
#if ROOTS == 2
	root[x] = true;
	term[x] = (term[x] > seen[x] / 32 -> term[x] : seen[x] / 32) + 1;
	seen[x] = LEASE(x)
#else
	skip
#endif
}

inline hop(j)
{
	d_step {
		a = m[j].at;
		x = m[j].mover;
		ok = a != x && !DETACHED(a) &&
		     (m[j].from == NONE ||
		      held[a * N + m[j].from] == m[j].under);
#ifdef NOSLOT
		count_children(a, x);
		ok = ok && (m[j].from != NONE || root[a] || k_ < ROOM);
#endif
#ifdef LEVELS
		ok = ok && (!root[a] ||
			    m[j].hops + 1 + m[j].height <= DEPTH);
		m[j].hops++;
#endif
		if
		:: !ok -> clear(j)
		:: ok && root[a] ->
			number[a]++;
#if ROOTS == 2 && !defined(NOSEEN)
			if
#ifdef TERMONLY
			:: m[j].seen / 32 > term[a] ->
#else
			:: m[j].seen >= LEASE(a) ->
#endif
				term[a] = m[j].seen / 32 + 1
			:: else
			fi;
			seen[a] = LEASE(a);
#endif
			k_ = LEASE(a);
			give_back(j, k_)
		:: ok && !root[a] ->
			m[j].from = a;
			m[j].under = lease[a];
			m[j].at = par[a]
		fi;
		a = 0;
		x = 0;
		ok = false
	}
}

/* The acceptor has the grant; it may forget who is not under its lease. */
inline give(j)
{
	a = m[j].to;
	if
	:: FORGETS(a, 0) -> held[a * N + 0] = 0
	:: FORGETS(a, 1) -> held[a * N + 1] = 0
	:: FORGETS(a, 2) -> held[a * N + 2] = 0
	:: FORGETS(a, 3) -> held[a * N + 3] = 0
	:: true
	fi;
	d_step {
		x = m[j].mover;
		count_children(a, x);
		ok = !DETACHED(a);
#ifndef NOSLOT
		ok = ok && (root[a] || k_ < ROOM);
#endif
		if
		:: ok ->
			overfull = !root[a] && k_ >= ROOM;
			assert(!overfull);
			i_ = 0;
			do
			:: i_ < N * N ->
				shared = i_ % N != x &&
					 (held[i_] == m[j].lease ||
					  lease[i_ % N] == m[j].lease);
				assert(!shared);
				i_++
			:: else -> break
			od;
			held[a * N + x] = m[j].lease;
			m[j].kind = HANDED
		:: else -> clear(j)
		fi;
		a = 0;
		x = 0;
		ok = false
	}
}

inline commit(j)
{
	d_step {
		x = m[j].mover;
		ok = true;
#ifndef NODETACH
		ok = ok && DETACHED(x);
#endif
#ifndef NONONCE
		ok = ok && m[j].nonce == nonce[x];
#endif
#ifndef NOTOP
		ok = ok && m[j].lease > top[x];
#endif
		if
		:: ok ->
#ifdef TEETH
			moved = true;
			assert(!moved);
#endif
			goes_back = m[j].lease <= ever[x];
			assert(!goes_back);
			par[x] = m[j].to;
			lease[x] = m[j].lease;
			top[x] = lease[x];
			ever[x] = lease[x];
#if ROOTS == 2
			if
			:: lease[x] > seen[x] -> seen[x] = lease[x]
			:: else
			fi;
#endif
			check_tree()
		:: else
		fi;
		clear(j);
		x = 0;
		ok = false
	}
}

inline deliver(j)
{
	if
	:: m[j].kind == CLIMBS -> hop(j)
	:: m[j].kind == GIVEN -> give(j)
	:: m[j].kind == HANDED -> commit(j)
	fi
}

inline restart(x)
{
	d_step {
		i_ = 0;
		do
		:: i_ < N ->
			held[x * N + i_] = 0;
			i_++
		:: else -> break
		od;
		nonce[x]++;
#if ROOTS == 2
		if
		:: x < 2 -> number[x] = 0
		:: else
		fi;
#endif
#if defined(OLDSTATE)
		par[x] = (x == 3 -> 1 : 0);
		lease[x] = FIRST(0, x)
#elif defined(REUSETERM)
		if
		:: !root[x] -> detach(x)
		:: else
		fi
#else
#ifdef AMNESIA
		top[x] = 0;
#if ROOTS == 2
		seen[x] = 0;
#endif
#endif
		detach(x)
#endif
	}
}

/* In the calm: the next thing that is not as it should be. */
inline settle()
{
	d_step {
		x = 0;
		do /* a beat is answered "moved" */
		:: x < N * N ->
			if
			:: held[x] != lease[x % N] -> held[x] = 0
			:: else
			fi;
			x++
		:: else -> break
		od;
		x = 0;
		do /* a beat does not come, or tells of too many above */
		:: x < N ->
			if
			:: !HELD(x) -> detach(x)
			:: else
			fi;
#if defined(LEVELS) && !defined(NODEEP)
			climb(x, NONE);
			if
			:: k_ > DEPTH -> detach(x)
			:: else
			fi;
#endif
			x++
		:: else -> break
		od;
#if ROOTS == 2
		if /* of two roots one resigns */
		:: root[0] && root[1] ->
			if
			:: LEASE(0) > LEASE(1) -> detach(1)
			:: else -> detach(0)
			fi
		:: !root[0] && !root[1] -> take_over(0)
		:: else
		fi;
#endif
		q = (root[0] -> 0 : 1);
		x = 0;
		do
		:: x < N && !DETACHED(x) -> x++
		:: else -> break
		od;
		if
		:: x < N ->
			asks++;
			late = asks > ASKS;
			assert(!late);
			ask(x, q)
		:: else ->
#ifdef LEVELS
			x = 0;
			do
			:: x < N ->
				climb(x, NONE);
				deep = k_ > DEPTH;
				assert(!deep);
				x++
			:: else -> break
			od;
#endif
			over = true
		fi;
		x = 0;
		q = 0
	}
}

/* From here on nothing is lost but what has not arrived so far. */
inline quiet()
{
	if
	:: m[0].kind != FREE -> clear(0)
	:: true
	fi;
	if
	:: m[1].kind != FREE -> clear(1)
	:: true
	fi;
	do
	:: m[0].kind != FREE -> deliver(0)
	:: m[1].kind != FREE -> deliver(1)
	:: SILENCE && !over -> settle()
	:: SILENCE && over -> break
	od
}

active proctype World()
{
	byte x, q, j, a;
	bool ok;

	d_step {
		root[0] = true;
		par[0] = NONE;
		par[3] = 1;
		lease[1] = FIRST(0, 1);
		lease[2] = FIRST(0, 2);
		lease[3] = FIRST(0, 3);
		number[0] = 3;
#if ROOTS == 2
		root[1] = true;
		par[1] = NONE;
		lease[1] = 0;
		lease[2] = FIRST(0, 1);
		lease[3] = FIRST(1, 1);
		number[0] = 1;
		number[1] = 1;
		term[0] = 1;
		term[1] = 2;
		seen[0] = LEASE(0);
		seen[1] = LEASE(1);
#endif
		do
		:: x < N ->
			top[x] = lease[x];
			ever[x] = lease[x];
			if
			:: lease[x] != 0 ->
				held[par[x] * N + x] = lease[x];
#if ROOTS == 2
				seen[x] = lease[x]
#endif
			:: else
			fi;
			x++
		:: else -> break
		od;
		x = 0
	}
	do
	/* a move */
	:: atomic { moves < MAXMOVES && ROOM_FOR_MESSAGE ->
		moves++;
		if
#if ROOTS == 2
		:: x = 0
#endif
		:: x = 1
		:: x = 2
		:: x = 3
		fi;
		if
		:: x != 0 -> q = 0
		:: x != 1 -> q = 1
		:: x != 2 -> q = 2
		:: x != 3 -> q = 3
		fi;
		d_step {
			ask(x, q);
			x = 0;
			q = 0
		} }
#if ROOTS == 2
	:: atomic { moves < MAXMOVES && DETACHED(0) ->
		moves++;
		take_over(0) }
	:: atomic { moves < MAXMOVES && DETACHED(1) ->
		moves++;
		take_over(1) }
#endif
	/* a message arrives, or is lost, or comes twice */
	:: atomic { m[0].kind != FREE -> deliver(0) }
	:: atomic { m[1].kind != FREE -> deliver(1) }
	/* what is lost is as good as late: until its place is needed */
	:: d_step { !ROOM_FOR_MESSAGE && moves < MAXMOVES -> clear(0) }
	:: d_step { !ROOM_FOR_MESSAGE && moves < MAXMOVES -> clear(1) }
	:: d_step { faults < FAULTS && m[0].kind != FREE &&
		   m[1].kind == FREE ->
		faults++;
		copy(0, 1) }
	/* a parent is lost */
	:: atomic { faults < FAULTS ->
		faults++;
		if
		:: par[1] != NONE -> detach(1)
		:: par[2] != NONE -> detach(2)
		:: par[3] != NONE -> detach(3)
		:: else
		fi }
	:: atomic { faults < FAULTS ->
		faults++;
		if
#if ROOTS == 2
		:: x = 0
#endif
		:: x = 1
		:: x = 2
		:: x = 3
		fi;
		restart(x);
		x = 0 }
	/* what has not arrived by now never does */
	:: moves == MAXMOVES -> break
	od;
#ifdef CALM
	atomic { quiet() }
#endif
}
