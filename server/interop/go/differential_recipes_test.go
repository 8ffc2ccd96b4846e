package interop

import (
	"context"
	"time"

	election "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lock "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/protobuf/proto"
)

// patienceInLine is how long a question of recipes waits for its turn, if it has to. Nothing else happens meanwhile.
const patienceInLine = 300 * time.Millisecond

// recipes asks for locks and leaderships. Mostly each line has one lease, so that few have to wait.
func (g *generator) recipes() step {
	line := g.IntN(4)
	lease := int64(1 + line)
	if g.seldom(30) {
		lease = g.leaseID()
	}
	lockName, electionName := []byte(one(g, "l", "m", "n", "o")), []byte(one(g, "e", "f", "g", "h"))
	if !g.seldom(30) {
		lockName, electionName = []byte{"lmno"[line]}, []byte{"efgh"[line]}
	}
	if g.seldom(40) {
		lockName, electionName = nil, nil
	}
	leader := g.leader(string(electionName))
	switch choice := g.IntN(100); {
	case choice < 20:
		return g.grantOf(1+int64(g.IntN(5)), 600)
	case choice < 24:
		return g.leaseStep()
	case choice < 42:
		return waiting("/v3lockpb.Lock/Lock", &lock.LockRequest{Name: lockName, Lease: lease},
			func() proto.Message { return &lock.LockResponse{} },
			func(s *talk, answer proto.Message) { s.held = answer.(*lock.LockResponse).Key })
	case choice < 52:
		unlocked := one(g, "l/1", "m/2", "nothing", "", "held")
		return unary("/v3lockpb.Lock/Unlock", "", func(s *talk) proto.Message {
			if unlocked == "held" {
				return &lock.UnlockRequest{Key: s.held}
			}
			return &lock.UnlockRequest{Key: []byte(unlocked)}
		}, func() proto.Message { return &lock.UnlockResponse{} }, nil)
	case choice < 68:
		request := &election.CampaignRequest{Name: electionName, Lease: lease, Value: g.value()}
		return waiting("/v3electionpb.Election/Campaign", request,
			func() proto.Message { return &election.CampaignResponse{} },
			func(s *talk, answer proto.Message) {
				s.leaders[string(electionName)] = answer.(*election.CampaignResponse).Leader
			})
	case choice < 76:
		value := g.value()
		return unary("/v3electionpb.Election/Proclaim", "", func(s *talk) proto.Message {
			return &election.ProclaimRequest{Leader: leader(s), Value: value}
		}, func() proto.Message { return &election.ProclaimResponse{} }, nil)
	case choice < 84:
		request := &election.LeaderRequest{Name: electionName}
		return unary("/v3electionpb.Election/Leader", "", func(*talk) proto.Message { return request },
			func() proto.Message { return &election.LeaderResponse{} }, nil)
	case choice < 92:
		return unary("/v3electionpb.Election/Resign", "", func(s *talk) proto.Message {
			return &election.ResignRequest{Leader: leader(s)}
		}, func() proto.Message { return &election.ResignResponse{} }, nil)
	default:
		return g.read()
	}
}

// leader is the leadership that was won last, or something like it.
func (g *generator) leader(name string) func(*talk) *election.LeaderKey {
	kind := g.IntN(12)
	return func(s *talk) *election.LeaderKey {
		won := s.leaders[name]
		if won == nil || kind == 0 {
			return nil
		}
		changed := proto.Clone(won).(*election.LeaderKey)
		switch kind {
		case 1:
			changed.Rev++
		case 2:
			changed.Lease = 99
		case 3:
			changed.Key = nil
		case 4:
			changed.Name = nil
		}
		return changed
	}
}

// waiting is a step that may have to wait for others, and then gives up.
func waiting(method string, request proto.Message, response func() proto.Message, learn func(*talk, proto.Message)) step {
	return func(s *talk) exchange {
		question := s.question(method, "", request)
		ctx, cancel := context.WithTimeout(context.Background(), patienceInLine)
		defer cancel()
		answer := response()
		if err := s.connection.Invoke(ctx, method, request, answer); err != nil {
			if ctx.Err() != nil {
				time.Sleep(patienceInLine / 4) // until the server has left the line as well
			}
			return exchange{question, s.refusal(err)}
		}
		s.noteRevision(answer)
		learn(s, answer)
		return exchange{question, s.text(answer)}
	}
}
