package hub

// Who is there in most scenes.
var (
	member   = []seating{{here: true}}                               // from the beginning
	goes     = []seating{{here: true, leaves: true}}                 // and may leave
	joins    = []seating{{}}                                         // at any time
	returns  = []seating{{leaves: true}, {after: 0}}                 // joins, leaves and joins
	outsider = []uint8{0}                                            // has no right at first
	two      = []uint8{rightToAll, rightToAll}                       // subjects
	lenient  = Mark{Topic: modelTopic, Lenient: true}                // of a table that is watched without a subject
	exact    = Mark{Subject: subjectName(0), Topic: modelTopic}      // of one that is watched with both
	lying    = Mark{XID: xidOf(1), Subject: subjectName(0)}          // of a transaction that is there, or will be
	foreign  = Mark{XID: xidOf(9), Topic: modelTopic, Lenient: true} // of one that never is
)

// scenes are explored with every run of the tests, in seconds, with the race detector on.
func scenes() []*scene {
	change := [][]statement{transaction(revokes()), transaction(sends()), transaction(grants())}
	quiet := [][]statement{transaction(revokes().quietly()), transaction(sends()), transaction(grants().quietly())}
	return []*scene{
		{name: "revoke and grant", seats: goes, clients: 1, rollbacks: true, transactions: change},
		{name: "revoke and grant twice", seats: member, transactions: [][]statement{
			transaction(revokes()), transaction(grants()), transaction(revokes(), sends()), transaction(grants())}},
		{name: "in one transaction", seats: member, clients: 1, transactions: [][]statement{
			transaction(sends(), revokes(), sends(), grants(), sends()), transaction(grants(), sends()), transaction(sends(), revokes())}},
		{name: "in one transaction, while joining", seats: joins, clients: 1, begin: outsider, transactions: [][]statement{
			transaction(sends(), grants(), sends()), transaction(revokes(), sends()), transaction(grants())}},
		{name: "grant while joining", seats: joins, clients: 1, begin: outsider, rollbacks: true, transactions: [][]statement{
			transaction(grants()), transaction(sends()), transaction(revokes())}},
		{name: "join, leave, join", seats: returns, transactions: change},
		{name: "join while others send", seats: joins, clients: 2, transactions: [][]statement{transaction(sends()), transaction(touches())}},
		{name: "marks for a topic, a subject, everyone", seats: member, clients: 1, transactions: [][]statement{
			transaction(revokes().by(Mark{Topic: modelTopic})), transaction(grants().by(Mark{Subject: subjectName(0)})), transaction(sends(), revokes().by(Mark{}))}},
		{name: "lenient marks", seats: member, clients: 1, transactions: [][]statement{
			transaction(revokes().by(lenient)), transaction(sends()), transaction(grants().by(lenient))}},
		{name: "lenient marks while joining", seats: joins, clients: 1, transactions: [][]statement{
			transaction(revokes().by(lenient)), transaction(sends()), transaction(grants().by(lenient))}},
		{name: "lenient marks beside strict ones", seats: member, clients: 1, transactions: append(change, transaction(touches()))},
		{name: "one extension of two", seats: joins, clients: 1, transactions: [][]statement{
			transaction(becomes(0, rightToPresence)), transaction(sends()), transaction(grants())}},
		{name: "another extension", seats: member, begin: []uint8{rightToMessages}, clients: 1, transactions: [][]statement{
			transaction(grants()), transaction(sends()), transaction(becomes(0, rightToMessages))}},
		{name: "two members", seats: []seating{{here: true}, {subject: 1, here: true}}, begin: two, transactions: [][]statement{
			transaction(revokes()), transaction(becomes(1, 0).by(Mark{Topic: modelTopic})), transaction(sends(), grants())}},
		{name: "two members of one subject", seats: []seating{{here: true}, {after: 1}}, transactions: [][]statement{
			transaction(revokes(), sends()), transaction(grants())}},
		{name: "another token", seats: []seating{{here: true, turnsInto: 1}}, begin: two, clients: 1, transactions: [][]statement{
			transaction(becomes(1, 0)), transaction(sends()), transaction(becomes(1, rightToAll))}},
		{name: "another token, of who has no right", seats: []seating{{turnsInto: 1}}, begin: []uint8{rightToAll, 0}, clients: 1, transactions: [][]statement{
			transaction(becomes(1, rightToAll)), transaction(revokes(), sends())}},
		{name: "forged marks", seats: member, clients: 1, forgeries: []Mark{lying, foreign}, transactions: [][]statement{
			transaction(revokes()), transaction(grants(), sends())}},
		{name: "a forged mark between", seats: member, clients: 1, forgeries: []Mark{foreign}, transactions: change},
		{name: "forged marks while joining", seats: joins, forgeries: []Mark{{XID: xidOf(0), Subject: subjectName(0)}}, begin: outsider, transactions: change},
		{name: "merged marks", seats: member, merging: true, clients: 1, forgeries: []Mark{exact}, transactions: change},
		{name: "merged marks of two, behind one of them", seats: member, merging: true, forgeries: []Mark{{XID: xidOf(0), Subject: subjectName(0), Topic: modelTopic}}, transactions: [][]statement{
			transaction(grants()), transaction(revokes()), transaction(sends())}},
		{name: "merged marks, lenient and strict", seats: member, merging: true, clients: 1, transactions: [][]statement{
			transaction(touches()), transaction(revokes().by(Mark{Topic: modelTopic})), transaction(grants())}},
		{name: "merged marks while joining", seats: joins, merging: true, forgeries: []Mark{exact}, begin: outsider, transactions: [][]statement{
			transaction(grants(), sends()), transaction(revokes())}},
		{name: "asking waits", seats: []seating{{here: true, turnsInto: 1}}, paced: true, begin: two, transactions: change},
		{name: "asking waits, while joining", seats: joins, paced: true, begin: outsider, transactions: change},
		{name: "a right ends by itself", seats: goes, clients: 1, transactions: [][]statement{transaction(ends()), transaction(sends()), transaction(grants())}},
		{name: "a right ends by itself, while joining", seats: joins, transactions: [][]statement{transaction(ends()), transaction(revokes()), transaction(grants())}},
		{name: "undecided", seats: joins, failures: 1, clients: 1, transactions: change},
		{name: "more waits than may", seats: joins, bound: 1, clients: 2, begin: outsider, transactions: [][]statement{
			transaction(grants()), transaction(sends())}},
		{name: "the past", seats: joins, replays: true, clients: 1, transactions: [][]statement{
			transaction(sends()), transaction(revokes(), sends()), transaction(grants())}},
		{name: "the past, when the proof runs out", seats: joins, replays: true, stalls: 1, transactions: [][]statement{transaction(sends()), transaction(sends())}},
		{name: "the connection is lost", seats: member, losses: 1, clients: 1, transactions: change},
		{name: "the connection is lost, and nothing changes", seats: member, losses: 2, transactions: [][]statement{transaction(sends()), transaction(touches(), sends())}},
		{name: "the connection is lost while joining", seats: joins, losses: 1, begin: outsider, clients: 1, transactions: [][]statement{
			transaction(grants()), transaction(sends())}},
		{name: "all is lost", seats: member, losses: 1, hopeless: true, transactions: change},
		{name: "the proof runs out", seats: member, stalls: 1, clients: 1, transactions: change},
		{name: "the proof runs out, and then the connection", seats: member, stalls: 1, losses: 1, transactions: [][]statement{
			transaction(revokes(), sends()), transaction(grants())}},
		{name: "alarms", seats: goes, clients: 1, alarms: true, transactions: change},
		{name: "alarms in one transaction", seats: member, alarms: true, transactions: [][]statement{
			transaction(sends(), revokes(), sends(), grants(), sends()), transaction(sends(), revokes()), transaction(grants(), sends())}},
		{name: "alarms while joining", seats: joins, alarms: true, clients: 1, begin: outsider, transactions: [][]statement{
			transaction(sends(), grants(), sends()), transaction(revokes()), transaction(sends(), grants())}},
		{name: "alarms, and a right that is new", seats: member, begin: []uint8{rightToPresence}, alarms: true, clients: 1, transactions: [][]statement{
			transaction(sends()), transaction(grants(), sends()), transaction(touches())}},
		{name: "alarms, merged", seats: member, alarms: true, merging: true, transactions: append(change, transaction(sends(), revokes()))},
		{name: "alarms, and forged marks", seats: member, alarms: true, forgeries: []Mark{lying}, transactions: change},
		{name: "alarms, and another token", seats: []seating{{here: true, turnsInto: 1}}, alarms: true, begin: two, transactions: [][]statement{
			transaction(becomes(1, 0)), transaction(sends()), transaction(becomes(1, rightToAll))}},
		{name: "alarms, and the connection is lost", seats: member, alarms: true, losses: 1, transactions: change},
		{name: "alarms, and the proof runs out", seats: member, alarms: true, stalls: 1, transactions: change},
		{name: "a lenient mark, and a right that is new", seats: member, begin: []uint8{rightToPresence}, clients: 1, transactions: [][]statement{
			transaction(touches()), transaction(sends()), transaction(grants(), sends())}},
		{name: "DDL", seats: goes, transactions: quiet},
		{name: "DDL while joining", seats: joins, begin: outsider, transactions: [][]statement{
			transaction(grants().quietly()), transaction(sends()), transaction(revokes().quietly())}},
		{name: "DDL and rows", seats: member, transactions: append(quiet[:3:3], transaction(revokes()))},
		{name: "DDL, and the connection is lost", seats: member, losses: 1, transactions: quiet},
		{name: "DDL, and the proof runs out", seats: member, stalls: 1, transactions: quiet},
		{name: "DDL, and a forged mark", seats: member, paced: true, forgeries: []Mark{foreign}, transactions: append(quiet[:3:3], transaction(sends()))},
		{name: "DDL, merged", seats: member, merging: true, forgeries: []Mark{{}}, transactions: quiet},
		{name: "a silence that lasts", seats: []seating{{here: true}, {after: 1}}, stalls: 1, timers: true, transactions: [][]statement{transaction(revokes())}},
	}
}

// largeScenes take minutes and a gigabyte: EXPLORE=all.
func largeScenes() []*scene {
	five := [][]statement{transaction(revokes(), sends()), transaction(sends()), transaction(grants()), transaction(sends(), revokes()), transaction(grants(), sends())}
	change := [][]statement{transaction(revokes()), transaction(sends()), transaction(grants())}
	return []*scene{
		{name: "large: five transactions", seats: goes, clients: 2, rollbacks: true, transactions: five},
		{name: "large: four transactions while joining", seats: joins, clients: 1, transactions: five[:4]},
		{name: "large: return", seats: returns, transactions: five[:4]},
		{name: "large: two members", seats: []seating{{here: true}, {subject: 1, after: 1}}, begin: two, transactions: append(change, transaction(becomes(1, 0).by(Mark{Topic: modelTopic})))},
		{name: "large: another token", seats: []seating{{turnsInto: 1, leaves: true}}, begin: two, transactions: [][]statement{
			transaction(becomes(1, 0)), transaction(sends(), revokes()), transaction(becomes(1, rightToAll)), transaction(sends())}},
		{name: "large: forged and merged", seats: member, merging: true, clients: 1, forgeries: []Mark{lying, exact}, transactions: five[:3]},
		{name: "large: two outages", seats: member, losses: 2, clients: 1, transactions: change},
		{name: "large: outages while joining", seats: joins, losses: 1, stalls: 1, transactions: change},
		{name: "large: a silence that lasts", seats: []seating{{here: true}, {after: 1}}, stalls: 1, timers: true, transactions: change[:2]},
	}
}
