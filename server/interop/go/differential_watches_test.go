package interop

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Watches are compared by what each watcher was told, in order, event by event: how events come together in answers
// while a watcher catches up is a matter of moments. At a barrier, everything must have been told.

// A stream is a stream of watches and what came from it.
type stream struct {
	grpc   grpc.ClientStream
	cancel context.CancelFunc

	lock      sync.Mutex
	told      map[int64][]string // by watcher, since the last barrier
	living    map[int64]bool
	replies   int   // to creations
	refused   bool  // whether the last of them was none
	progress  int64 // the revision of the last answer about progress
	ended     string
	compacted bool            // whether a watcher ended because of a compaction
	events    map[int64]int64 // the revision of each watcher's last event
}

// lookingAhead is the stream whose watchers may wait for revisions of the future; of those, no progress is told.
const lookingAhead = 2

// mark is the key by whose changes it is known that everything before them was told. When exactly the others are told
// of it is nobody's concern.
const mark = "~mark"

// stream is one of a session's streams; a new one, if it was not there.
func (s *talk) stream(number int) *stream {
	if open := s.streams[number]; open != nil {
		return open
	}
	ctx, cancel := context.WithCancel(context.Background())
	made, err := s.connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/etcdserverpb.Watch/Watch")
	open := &stream{grpc: made, cancel: cancel, told: map[int64][]string{}, living: map[int64]bool{}, events: map[int64]int64{}}
	s.streams[number] = open
	if err != nil {
		open.ended = s.refusal(err)
		return open
	}
	go open.receive(s)
	return open
}

func (o *stream) receive(s *talk) {
	for {
		answer := &etcdserverpb.WatchResponse{}
		err := o.grpc.RecvMsg(answer)
		o.lock.Lock()
		if err != nil {
			o.ended = s.refusal(err)
			o.lock.Unlock()
			return
		}
		o.note(s, answer)
		o.lock.Unlock()
	}
}

// note files an answer under its watcher.
func (o *stream) note(s *talk, answer *etcdserverpb.WatchResponse) {
	id, events := answer.WatchId, answer.Events
	tell := func(text string) { o.told[id] = append(o.told[id], text) }
	if answer.Created || answer.Canceled {
		// Its header is what is current at a moment that nobody knows, unless somebody waited for it.
		tell(s.text(answer))
		if answer.Created {
			o.replies++
			o.refused = answer.Canceled
		}
		o.compacted = o.compacted || answer.CompactRevision != 0
		if o.living[id] = answer.Created && !answer.Canceled; !o.living[id] {
			delete(o.living, id)
		}
		return
	}
	if len(events) == 0 {
		o.progress = max(o.progress, answer.Header.Revision)
		return
	}
	for i, event := range events {
		o.events[id] = event.Kv.ModRevision
		if string(event.Kv.Key) != mark {
			tell(s.text(event))
		}
		if i > 0 && events[i-1].Kv.ModRevision > event.Kv.ModRevision || event.Kv.ModRevision > answer.Header.Revision {
			tell("events out of order: " + s.text(answer))
		}
	}
}

// watches asks for watches, among changes that they see.
func (g *generator) watches() step {
	switch choice := g.IntN(100); {
	case choice < 18:
		return g.createWatch()
	case choice < 24:
		return g.cancelWatch()
	case choice < 30:
		return barrier()
	case choice < 55:
		return g.put()
	case choice < 67:
		return g.delete()
	case choice < 85:
		return g.txn()
	case choice < 92:
		compaction := g.compact()
		return after(barrier(), compaction)
	case choice < 94:
		return g.bigEvents()
	default:
		return g.leaseStep()
	}
}

// after is two steps in a row.
func after(first, second step) step {
	return func(s *talk) exchange {
		one, two := first(s), second(s)
		return exchange{one.question + ", " + two.question, one.answer + ", " + two.answer}
	}
}

// bigEvents is a history that does not fit into one answer.
func (g *generator) bigEvents() step {
	key := g.key()
	return func(s *talk) exchange {
		ctx, cancel := s.as("")
		defer cancel()
		answer := ""
		for range 20 {
			found := &etcdserverpb.PutResponse{}
			if err := s.connection.Invoke(ctx, "/etcdserverpb.KV/Put", &etcdserverpb.PutRequest{Key: key, Value: make([]byte, 15_000)}, found); err != nil {
				answer += s.refusal(err)
				break
			}
			s.noteRevision(found)
		}
		return exchange{fmt.Sprintf("20 large puts of %q", key), answer}
	}
}

func (g *generator) createWatch() step {
	number := g.IntN(lookingAhead + 1)
	key := g.key()
	request := &etcdserverpb.WatchCreateRequest{
		Key: key, RangeEnd: g.end(key), PrevKv: g.seldom(2), ProgressNotify: g.seldom(4), Fragment: g.seldom(3),
	}
	if g.seldom(4) {
		request.RangeEnd = []byte{0}
	}
	if g.seldom(4) {
		request.Filters = []etcdserverpb.WatchCreateRequest_FilterType{etcdserverpb.WatchCreateRequest_FilterType(g.IntN(3))}
	}
	if g.seldom(4) {
		request.WatchId = one(g, int64(1), 2, 3, 7, -1, -5)
	}
	start := exactly(0)
	switch {
	case number == lookingAhead:
		ahead := int64(g.IntN(12))
		start = func(s *talk) int64 { return s.revision + ahead }
	case g.seldom(2):
		back := int64(g.IntN(25))
		start = func(s *talk) int64 { return s.revision - back }
	case g.seldom(8):
		start = exactly(one(g, int64(-1), 1, -1<<63))
	case g.seldom(8):
		start = func(s *talk) int64 { return s.compacted }
	}
	return after(barrier(), func(s *talk) exchange {
		asked := proto.Clone(request).(*etcdserverpb.WatchCreateRequest)
		asked.StartRevision = start(s)
		open := s.stream(number)
		question := fmt.Sprintf("on stream %d: watch {%s}", number, s.text(asked))
		if number == lookingAhead && asked.StartRevision <= s.revision {
			asked.StartRevision = s.revision + 1
		}
		open.lock.Lock()
		replies := open.replies
		open.lock.Unlock()
		open.send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: asked}})
		never := open.wait("a reply to the creation", func() bool { return open.replies > replies })
		if never == "" && 0 < asked.StartRevision && asked.StartRevision < s.compacted {
			// etcd finds out when it next looks at watchers that are behind, up to 100 ms later.
			never = open.wait("the end of a watcher below the compaction", func() bool { return open.refused || open.compacted })
		}
		return exchange{question, never}
	})
}

func (g *generator) cancelWatch() step {
	number, id := g.IntN(lookingAhead+1), int64(g.IntN(9))-1
	return after(barrier(), func(s *talk) exchange {
		open := s.stream(number)
		open.lock.Lock()
		lives := open.living[id]
		open.lock.Unlock()
		open.send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CancelRequest{CancelRequest: &etcdserverpb.WatchCancelRequest{WatchId: id}}})
		answer := ""
		if lives {
			answer = open.wait("the end of the watcher", func() bool { return !open.living[id] })
		}
		return exchange{fmt.Sprintf("on stream %d: cancel %d", number, id), answer}
	})
}

// send sends a request; if that fails, receiving tells why.
func (o *stream) send(request *etcdserverpb.WatchRequest) {
	if o.grpc != nil {
		o.grpc.SendMsg(request)
	}
}

// wait waits until something holds of what came, and says so if it never does.
func (o *stream) wait(what string, holds func() bool) string {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		o.lock.Lock()
		done, ended := holds(), o.ended
		o.lock.Unlock()
		switch {
		case done:
			return ""
		case ended != "":
			return "the stream ended: " + ended
		case time.Now().After(deadline):
			return "never: " + what
		}
	}
}

// barrier waits until all watchers were told everything, and compares it.
func barrier() step {
	return func(s *talk) exchange {
		var told []string
		for _, number := range []int{lookingAhead, 0, 1} { // the first changes a key, which the others may see
			open := s.streams[number]
			if open == nil {
				continue
			}
			told = append(told, open.settle(s, number))
			if open.compacted {
				// In etcd, no progress is told on such a stream any more: a row of docs/compat.md. Wait for what was on
				// its way, and go on with another one.
				time.Sleep(patienceInLine)
				open.cancel()
				delete(s.streams, number)
			}
			told = append(told, open.take(number)...)
		}
		return exchange{"everything that was told", strings.Join(told, "\n      ")}
	}
}

// settle waits until progress as far as the current revision is told.
func (o *stream) settle(s *talk, number int) string {
	if number == lookingAhead {
		return o.settleAhead(s)
	}
	next := time.Now()
	return o.wait("progress", func() bool {
		if len(o.living) == 0 || o.progress >= s.revision || o.compacted {
			return true
		}
		if now := time.Now(); !now.Before(next) {
			next = now.Add(5 * time.Millisecond)
			o.send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{ProgressRequest: &etcdserverpb.WatchProgressRequest{}}})
		}
		return false
	})
}

// settleAhead changes a key, which a watcher of the stream's sees: what it is told is told to the others before. That
// needs no progress, but it needs that nobody has to catch up, and that the key can be changed.
func (o *stream) settleAhead(s *talk) string {
	const watcher = 1 << 40
	o.lock.Lock()
	there := o.living[watcher]
	o.lock.Unlock()
	if !there {
		o.send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte(mark), WatchId: watcher}}})
		if never := o.wait("the watcher of the mark", func() bool { return o.living[watcher] }); never != "" {
			return never
		}
	}
	put := &etcdserverpb.PutResponse{}
	ctx, cancel := s.as("")
	defer cancel()
	if err := s.connection.Invoke(ctx, "/etcdserverpb.KV/Put", &etcdserverpb.PutRequest{Key: []byte(mark)}, put); err != nil {
		return s.refusal(err)
	}
	s.noteRevision(put)
	return o.wait("the mark", func() bool { return o.events[watcher] >= put.Header.Revision })
}

// take is what was told since the last time, watcher by watcher.
func (o *stream) take(number int) []string {
	o.lock.Lock()
	defer o.lock.Unlock()
	var ids []int64
	for id := range o.told {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(a, b int) bool { return ids[a] < ids[b] })
	var lines []string
	for _, id := range ids {
		for _, text := range o.told[id] {
			if len(text) > 300 {
				text = fmt.Sprintf("%s… (%d)", text[:300], len(text))
			}
			lines = append(lines, fmt.Sprintf("stream %d, watcher %d: %s", number, id, text))
		}
	}
	o.told = map[int64][]string{}
	if o.ended != "" && !o.compacted {
		lines = append(lines, fmt.Sprintf("stream %d ended: %s", number, o.ended))
	}
	return lines
}
