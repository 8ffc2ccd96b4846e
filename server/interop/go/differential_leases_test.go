package interop

import (
	"fmt"
	"math"
	"sort"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// leases asks about leases, among puts that use them.
func (g *generator) leases() step {
	switch choice := g.IntN(100); {
	case choice < 60:
		return g.leaseStep()
	case choice < 80:
		return g.put()
	case choice < 85:
		return g.delete()
	case choice < 93:
		return g.txn()
	default:
		return g.read()
	}
}

func (g *generator) leaseStep() step {
	switch choice := g.IntN(100); {
	case choice < 30:
		return g.grant()
	case choice < 34:
		return g.shortLease()
	case choice < 50:
		request := &etcdserverpb.LeaseRevokeRequest{ID: g.leaseID()}
		return unary("/etcdserverpb.Lease/LeaseRevoke", g.user, func(*talk) proto.Message { return request },
			func() proto.Message { return &etcdserverpb.LeaseRevokeResponse{} }, nil)
	case choice < 75:
		request := &etcdserverpb.LeaseTimeToLiveRequest{ID: g.leaseID(), Keys: g.seldom(2)}
		return unary("/etcdserverpb.Lease/LeaseTimeToLive", g.user, func(*talk) proto.Message { return request },
			func() proto.Message { return &etcdserverpb.LeaseTimeToLiveResponse{} },
			func(_ *talk, answer proto.Message) {
				keys := answer.(*etcdserverpb.LeaseTimeToLiveResponse).Keys // of a map
				sort.Slice(keys, func(a, b int) bool { return string(keys[a]) < string(keys[b]) })
			})
	case choice < 85:
		return g.keepAlive()
	default:
		return unary("/etcdserverpb.Lease/LeaseLeases", g.user, func(*talk) proto.Message { return &etcdserverpb.LeaseLeasesRequest{} },
			func() proto.Message { return &etcdserverpb.LeaseLeasesResponse{} },
			func(s *talk, answer proto.Message) {
				leases := answer.(*etcdserverpb.LeaseLeasesResponse).Leases // by the time of their end
				sort.Slice(leases, func(a, b int) bool { return s.named(leases[a].ID) < s.named(leases[b].ID) })
			})
	}
}

// named is the id by which a lease is shown.
func (s *talk) named(id int64) int64 {
	if name, known := s.names.ids[uint64(id)]; known {
		return int64(name)
	}
	return id
}

func (g *generator) grant() step {
	id, ttl := g.leaseID(), one(g, int64(100), 600, 3600, 9_000_000_000, 9_000_000_001, math.MaxInt64)
	if g.seldom(5) {
		id = 0
	}
	return g.grantOf(id, ttl)
}

func (g *generator) grantOf(id, ttl int64) step {
	request := &etcdserverpb.LeaseGrantRequest{ID: id, TTL: ttl}
	return unary("/etcdserverpb.Lease/LeaseGrant", g.user, func(*talk) proto.Message { return request },
		func() proto.Message { return &etcdserverpb.LeaseGrantResponse{} },
		func(s *talk, answer proto.Message) {
			if request.ID == 0 {
				s.names.id(uint64(answer.(*etcdserverpb.LeaseGrantResponse).ID))
			}
		})
}

// shortLease grants less than there is, and revokes it at once, before it ends by itself.
func (g *generator) shortLease() step {
	request := &etcdserverpb.LeaseGrantRequest{ID: 1000, TTL: one(g, int64(0), -1, 1, math.MinInt64)}
	granted := unary("/etcdserverpb.Lease/LeaseGrant", g.user, func(*talk) proto.Message { return request },
		func() proto.Message { return &etcdserverpb.LeaseGrantResponse{} }, nil)
	revoked := unary("/etcdserverpb.Lease/LeaseRevoke", g.user, func(*talk) proto.Message {
		return &etcdserverpb.LeaseRevokeRequest{ID: request.ID}
	}, func() proto.Message { return &etcdserverpb.LeaseRevokeResponse{} }, nil)
	return func(s *talk) exchange {
		first, second := granted(s), revoked(s)
		return exchange{first.question + ", " + second.question, first.answer + ", " + second.answer}
	}
}

// keepAlive renews leases on one stream, of which some are there.
func (g *generator) keepAlive() step {
	user := g.user
	ids := []int64{g.leaseID(), g.leaseID()}
	return func(s *talk) exchange {
		question := s.question("/etcdserverpb.Lease/LeaseKeepAlive", user, nil) + fmt.Sprint(ids)
		ctx, cancel := s.as(user)
		defer cancel()
		stream, err := s.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/etcdserverpb.Lease/LeaseKeepAlive")
		answer := ""
		for _, id := range ids {
			if err != nil {
				break
			}
			stream.SendMsg(&etcdserverpb.LeaseKeepAliveRequest{ID: id}) // receiving tells of an error
			renewed := &etcdserverpb.LeaseKeepAliveResponse{}
			if err = stream.RecvMsg(renewed); err == nil {
				answer += s.text(renewed) + "; "
			}
		}
		if err != nil {
			answer += s.refusal(err)
		}
		return exchange{question, answer}
	}
}
