package interop

import (
	"fmt"
	"sort"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// maintenance asks about the member and its cluster, among some keys.
func (g *generator) maintenance() step {
	switch choice := g.IntN(10); {
	case choice < 4:
		return g.maintenanceStep()
	case choice < 7:
		return g.memberStep()
	default:
		return g.kv()
	}
}

// selfID is the id of the member that is asked, the same for both, because both claim the same addresses.
const selfID = 0x8e9e05c52164694d

func (g *generator) maintenanceStep() step {
	call := func(method string, request, response proto.Message) step {
		return unary("/etcdserverpb.Maintenance/"+method, g.user, func(*talk) proto.Message { return request },
			func() proto.Message { return proto.Clone(response) }, sortAlarms)
	}
	switch choice := g.IntN(20); {
	case choice < 8:
		request := &etcdserverpb.AlarmRequest{
			Action:   etcdserverpb.AlarmRequest_AlarmAction(one(g, 0, 0, 1, 2, 2, 2)),
			MemberID: one[uint64](g, 0, 1, selfID, 1<<64-1),
			Alarm:    etcdserverpb.AlarmType(g.IntN(3)),
		}
		if request.Action == etcdserverpb.AlarmRequest_GET && g.seldom(10) { // etcd would keep it
			request.Alarm = one(g, etcdserverpb.AlarmType(3), -1)
		}
		return call("Alarm", request, &etcdserverpb.AlarmResponse{})
	case choice < 11:
		return call("Status", &etcdserverpb.StatusRequest{}, &etcdserverpb.StatusResponse{})
	case choice < 12:
		return call("Hash", &etcdserverpb.HashRequest{}, &etcdserverpb.HashResponse{})
	case choice < 13:
		return call("Defragment", &etcdserverpb.DefragmentRequest{}, &etcdserverpb.DefragmentResponse{})
	case choice < 15:
		return call("MoveLeader", &etcdserverpb.MoveLeaderRequest{TargetID: one[uint64](g, 0, 1, selfID)}, &etcdserverpb.MoveLeaderResponse{})
	case choice < 18:
		request := &etcdserverpb.DowngradeRequest{
			Action:  etcdserverpb.DowngradeRequest_DowngradeAction(one(g, 0, 0, 0, 2)),
			Version: one(g, "3.6", "3.6.0", "3.7", "3.7.3", "3.5", "3", "", "a.b", "3.6.x", "v3.6", "4.0", "-1.6", "3.6.0-rc.0", "3.6+x"),
		}
		if !g.auth && g.seldom(4) { // Cairn does not wait to hear who asks for what there is not
			request.Action = one(g, etcdserverpb.DowngradeRequest_DowngradeAction(3), -1)
		}
		return call("Downgrade", request, &etcdserverpb.DowngradeResponse{})
	default:
		return g.hashKV()
	}
}

func (g *generator) memberStep() step {
	// Each time others: the id of a member is made of its addresses and the second, and is never used again.
	g.port++
	fresh := func(path string) string { return fmt.Sprintf("http://127.0.0.1:%d%s", 1000+g.port, path) }
	urls := func() []string {
		return one(g, nil, []string{}, []string{""}, []string{"http://127.0.0.1:2380"}, []string{fresh("")}, []string{fresh(""), "http://127.0.0.1:1"},
			[]string{"127.0.0.1:4"}, []string{"ftp://127.0.0.1:4"}, []string{"http://127.0.0.1"}, []string{fresh("/path")}, []string{fresh(""), fresh("")}, []string{"http://"})
	}
	// The only learner that there may be, one that there never was, or nobody.
	id := func() number {
		if g.seldom(2) {
			return func(s *talk) int64 { return int64(s.learner) }
		}
		return exactly(one(g, int64(0), 1, -1))
	}
	call := func(method string, request func(*talk) proto.Message, response proto.Message, learn func(*talk, proto.Message)) step {
		return unary("/etcdserverpb.Cluster/"+method, g.user, request, func() proto.Message { return proto.Clone(response) }, learn)
	}
	switch choice := g.IntN(20); {
	case choice < 6:
		request := &etcdserverpb.MemberAddRequest{PeerURLs: urls(), IsLearner: true}
		return call("MemberAdd", func(*talk) proto.Message { return request }, &etcdserverpb.MemberAddResponse{},
			func(s *talk, answer proto.Message) {
				s.learner = answer.(*etcdserverpb.MemberAddResponse).Member.ID
				s.names.id(s.learner)
				sortMembers(s, answer.(*etcdserverpb.MemberAddResponse).Members)
			})
	case choice < 9:
		target := id()
		return call("MemberRemove", func(s *talk) proto.Message {
			return &etcdserverpb.MemberRemoveRequest{ID: uint64(target(s))}
		}, &etcdserverpb.MemberRemoveResponse{}, func(s *talk, answer proto.Message) {
			sortMembers(s, answer.(*etcdserverpb.MemberRemoveResponse).Members)
		})
	case choice < 12:
		// What is no URL is refused by Cairn and taken by etcd: a row of docs/compat.md.
		target, to := id(), one(g, []string{"http://127.0.0.1:2380"}, []string{"http://127.0.0.1:1"}, []string{"http://127.0.0.1:6", "http://127.0.0.1:7"})
		return call("MemberUpdate", func(s *talk) proto.Message {
			return &etcdserverpb.MemberUpdateRequest{ID: uint64(target(s)), PeerURLs: to}
		}, &etcdserverpb.MemberUpdateResponse{}, func(s *talk, answer proto.Message) {
			sortMembers(s, answer.(*etcdserverpb.MemberUpdateResponse).Members)
		})
	case choice < 15:
		target := id()
		if g.seldom(4) {
			me := uint64(selfID)
			target = exactly(int64(me))
		}
		return call("MemberPromote", func(s *talk) proto.Message {
			return &etcdserverpb.MemberPromoteRequest{ID: uint64(target(s))}
		}, &etcdserverpb.MemberPromoteResponse{}, nil)
	default:
		request := &etcdserverpb.MemberListRequest{Linearizable: g.seldom(2)}
		return call("MemberList", func(*talk) proto.Message { return request }, &etcdserverpb.MemberListResponse{},
			func(s *talk, answer proto.Message) {
				sortMembers(s, answer.(*etcdserverpb.MemberListResponse).Members)
			})
	}
}

// sortAlarms sorts what etcd takes out of a Go map.
func sortAlarms(_ *talk, answer proto.Message) {
	switch answer := answer.(type) {
	case *etcdserverpb.AlarmResponse:
		sort.Slice(answer.Alarms, func(a, b int) bool {
			one, other := answer.Alarms[a], answer.Alarms[b]
			return one.MemberID < other.MemberID || one.MemberID == other.MemberID && one.Alarm < other.Alarm
		})
	case *etcdserverpb.StatusResponse:
		for i := range answer.Errors {
			answer.Errors[i] = spaces.ReplaceAllString(answer.Errors[i], " ")
		}
		sort.Strings(answer.Errors)
	}
}

// sortMembers sorts members as they are shown: by ids, of which some were drawn.
func sortMembers(s *talk, members []*etcdserverpb.Member) {
	name := func(m *etcdserverpb.Member) uint64 { return uint64(s.named(int64(m.ID))) }
	for i := range members {
		for j := i; j > 0 && name(members[j]) < name(members[j-1]); j-- {
			members[j], members[j-1] = members[j-1], members[j]
		}
	}
}
