/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rule of the lease (query.pml, FIX=3) where the tree is deep, two agents
 * move, replies are lost, traversals are shared and the root changes.
 *
 * Agents: 0 is the root and asks; 1 and 2 are its children; 3 moves between 1
 * and 2 and keeps its child; 4 begins below 3 and moves among 1, 2 and 3.  A
 * lease is term and number in one: 16 * term + n.  An agent that has taken a
 * request goes on collecting even when it has lost its place meanwhile.  cnt[i]
 * is how often the value of agent i is in the answer of the one query that is
 * followed.
 *
 * Parts, each with its controls:
 *
 *   (none)  moves                       OLDLEASE  a mover keeps its old lease
 *                                       NOASOF    no comparison with as_of
 *                                       COUNT     OLDLEASE: one twice, one not
 *                                                 at all look complete
 *   RETRY   a reply is lost and the     BOTH      the late reply counts as well
 *           child is asked once more    (NOKEEP   it collects again: ok too)
 *   SHARE   an earlier query is under   ANYASOF   a query joins another's
 *           way at 3, and is joined               traversal whatever its as_of
 *           by one of the same as_of
 *   TERMS   2 leaves for a second root  NOTERM    that root keeps the old term
 *           whose term is its own
 *           highest + 1
 *   BEHIND  as TERMS, and the second    NOSEEN    it does not go above the
 *           root has not heard of the             terms that movers have seen
 *           first one's latest term
 *
 * TEETH: an answer with every agent in it is an error.
 */
#ifdef COUNT
#define OLDLEASE
#endif
#ifdef BEHIND
#define TERMS
#define TERM_A 3 /* the asking root's: the leases so far are of term 1 */
#else
#define TERM_A 1
#endif
#ifndef GRANTS
#define GRANTS 2
#endif
#ifdef ANYASOF
#define JOINS true
#else
#define JOINS (as_of == as_of_0)
#endif
#define LEASE(term, n) ((term) * 16 + (n))

byte lease[5];  /* what 3 and 4 answer under; 0: detached */
byte par[5];
byte top[5];    /* the highest lease that they ever held */
byte seen[5];   /* the highest term that they heard of */
byte held[20];  /* [parent * 5 + child]: its lease as the parent knows it */
byte cnt[5];
byte number;    /* of the first root's latest grant */
byte grants;    /* by both roots */
byte as_of;
byte running;   /* exchanges of the query */
#ifdef TERMS
bool left;      /* 2 is with the second root */
byte term_b, number_b;
#endif
#ifdef SHARE
byte as_of_0;
byte early;     /* at 3: 1 under way, 2 done */
bool early_4;   /* what it has of 4 */
#endif
hidden byte twice, complete, wrong;

/* The root above q numbers a grant for x. */
inline grant_number(x, q, l)
{
#ifdef TERMS
	if
	:: left && (q == 2 || (q == 3 && par[3] == 2)) ->
#ifndef NOSEEN
		if
		:: seen[x] > term_b -> term_b = seen[x] + 1
		:: else
		fi;
#endif
		number_b++;
		l = LEASE(term_b, number_b)
	:: else ->
		number++;
		l = LEASE(TERM_A, number)
	fi
#else
	number++;
	l = LEASE(TERM_A, number)
#endif
}

proctype Mover(byte me)
{
	byte to, l;

	do
	:: atomic { grants < GRANTS ->
		grants++;
		if
		:: to = 1
		:: to = 2
		:: me == 4 -> to = 3
		fi;
#ifndef OLDLEASE
		lease[me] = 0;
		par[me] = 0
#endif
		}
		atomic {
			if
			:: to == 3 && par[3] == 0 -> goto next /* refused */
			:: else -> grant_number(me, to, l)
			fi
		}
		d_step { /* a parent without the commit would be refused */
			held[to * 5 + me] = l;
			if
			:: l > top[me] ->
				lease[me] = l;
				par[me] = to;
				top[me] = l
			:: else
			fi;
			if
			:: l / 16 > seen[me] -> seen[me] = l / 16
			:: else
			fi
		}
next:		atomic { to = 0; l = 0 }
	:: break
	od
}

inline accepted(c, l, limit, yes)
{
#ifdef NOASOF
	yes = l != 0 && lease[c] == l;
#else
	yes = l != 0 && lease[c] == l && l <= limit;
#endif
	if
	:: yes && limit / 16 > seen[c] -> seen[c] = limit / 16
	:: else
	fi
}

#ifdef SHARE
/* The same question, asked before; 3 works for it. */
proctype Early()
{
	byte l;
	bool yes;

	atomic {
		as_of_0 = LEASE(TERM_A, number);
		accepted(3, held[1 * 5 + 3], as_of_0, yes);
		if
		:: yes -> early = 1
		:: else -> goto end
		fi
	}
	l = held[3 * 5 + 4];
	atomic {
		accepted(4, l, as_of_0, yes);
		early_4 = yes;
		yes = false
	}
	early = 2; /* other children have answered as well */
end:	skip
}
#endif

/* p asks c; c is at most once in what p makes of it. */
proctype Ask(byte p, c)
{
	byte l, l_4;
	bool yes, has_4, again;

	l = held[p * 5 + c];
send:	atomic {
		accepted(c, l, as_of, yes);
		if
		:: !yes -> goto end
		:: yes && c == 4 -> yes = false; goto reply
#ifndef NOKEEP
		:: yes && c == 3 && again -> yes = false; goto reply
#endif
		:: else -> yes = false
		fi
	}
#ifdef SHARE
	if
	:: atomic { early == 1 && JOINS -> early == 2 -> has_4 = early_4 };
		goto reply
	:: !(early == 1 && JOINS)
	fi;
#endif
	l_4 = held[3 * 5 + 4];
	atomic { /* 3 collects from its child */
		accepted(4, l_4, as_of, yes);
		has_4 = yes;
		yes = false;
		l_4 = 0;
reply:
#ifdef RETRY
		if
		:: !again -> /* it does not arrive */
#ifdef BOTH
			cnt[c]++;
			cnt[4] = cnt[4] + has_4;
#endif
			again = true;
			goto send
		:: true
		fi;
#endif
		cnt[c]++;
		cnt[4] = cnt[4] + has_4;
end:		running--;
		has_4 = false;
		again = false;
		l = 0
	}
}

/* 1 or 2 has the request: it asks whom it holds. */
proctype Inner(byte p)
{
	atomic {
#ifdef TERMS
		if
		:: p == 2 && left -> running = running - 2; goto end
		:: else
		fi;
#endif
		cnt[p]++;
		run Ask(p, 3);
		run Ask(p, 4)
	}
end:	skip
}

#ifdef TERMS
proctype Leaves()
{
	left = true
}
#endif

proctype Root()
{
	atomic {
		as_of = LEASE(TERM_A, number);
		cnt[0]++;
		running = 4;
		run Inner(1);
		run Inner(2)
	}
	atomic {
		running == 0;
		twice = cnt[1] > 1 || cnt[2] > 1 || cnt[3] > 1 || cnt[4] > 1;
#ifndef COUNT
		assert(!twice);
#endif
		complete = cnt[0] + cnt[1] + cnt[2] + cnt[3] + cnt[4] == 5;
		wrong = complete && twice;
		assert(!wrong);
#ifdef TEETH
		assert(!complete)
#endif
	}
}

init
{
	atomic {
		lease[3] = LEASE(1, 1);
		lease[4] = LEASE(1, 2);
		held[1 * 5 + 3] = lease[3];
		held[3 * 5 + 4] = lease[4];
		par[3] = 1;
		par[4] = 3;
		top[3] = lease[3];
		top[4] = lease[4];
		seen[3] = 1;
		seen[4] = 1;
		number = 2;
#ifdef TERMS
#ifdef NOTERM
		term_b = 1; /* and it has missed the latest grant */
		number_b = 1;
#else
		term_b = 2;
		number_b = 1;
#endif
		run Leaves();
#endif
#ifdef SHARE
		run Early();
#endif
		run Mover(3);
		run Mover(4);
		run Root()
	}
}
