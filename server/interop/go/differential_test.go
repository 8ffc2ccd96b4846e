package interop

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// How much TestDifferential asks, and what; both are printed, and the same two numbers ask the same again.
var (
	differentialSeed     = flag.Uint64("differential.seed", fromEnvironment("DIFFERENTIAL_SEED", 1), "the first seed")
	differentialRequests = flag.Int("differential.requests", int(fromEnvironment("DIFFERENTIAL_REQUESTS", 100_000)), "requests to each server")
	differentialSubject  = flag.String("differential.subject", "", "only this subject")
	differentialWithout  = flag.String("differential.without", os.Getenv("DIFFERENTIAL_WITHOUT"), "not these subjects, with commas between them")
	differentialFailures = flag.Int("differential.failures", 1, "stop after so many sequences that differ")
	differentialShorten  = flag.Bool("differential.shorten", true, "shorten sequences that differ")
)

func fromEnvironment(name string, otherwise uint64) uint64 {
	if number, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return number
	}
	return otherwise
}

// shortening is how long a sequence that differs is shortened, at most.
const shortening = 90 * time.Second

// A subject is a kind of sequence: what its requests are about.
type subject struct {
	name   string
	weight int // of a hundred sequences
	length int // of one
	flags  []string
	begin  func(*generator) []step // what comes before, if anything
	next   func(*generator) step
}

var subjects = []subject{
	{"kv", 50, 1500, nil, nil, (*generator).kv},
	{"leases", 14, 1000, nil, nil, (*generator).leases},
	{"watches", 5, 250, nil, nil, (*generator).watches},
	{"users", 15, 1000, nil, (*generator).enableUsers, (*generator).users},
	{"recipes", 2, 200, nil, nil, (*generator).recipes},
	{"maintenance", 5, 600, nil, nil, (*generator).maintenance},
	{"gateway", 9, 800, nil, nil, (*generator).gateway},
}

// TestDifferential asks Cairn and etcd the same random questions, one sequence after the other, each on a fresh pair of
// members, and expects the same answers: every field, every code, every text. What may differ is masked in
// differential_mask_test.go, and each mask has its row in docs/compat.md. A sequence that differs is shortened until
// nothing can be left out, and shown with both answers.
func TestDifferential(t *testing.T) {
	t.Logf("seed %d, %d requests: -differential.seed and -differential.requests, or DIFFERENTIAL_SEED and DIFFERENTIAL_REQUESTS", *differentialSeed, *differentialRequests)
	asked, failures := 0, 0
	counts := map[string]int{}
	for seed := *differentialSeed; asked < *differentialRequests; seed++ {
		sequence := generate(seed)
		name := sequence.subject.name
		if *differentialSubject != "" && name != *differentialSubject || slices.Contains(strings.Split(*differentialWithout, ","), name) {
			continue
		}
		found := compare(t, sequence)
		asked += found.asked
		counts[sequence.subject.name] += found.asked
		if found.difference == nil {
			continue
		}
		if *differentialShorten {
			sequence, found = shorten(t, sequence, found)
		}
		t.Errorf("seed %d, subject %s: the answers differ after %d requests\n%s", seed, sequence.subject.name, len(sequence.steps), found.difference)
		if failures++; failures >= *differentialFailures {
			break
		}
	}
	t.Logf("%d requests to each: %v", asked, counts)
}

// A sequence is questions of one subject, made from a seed.
type sequence struct {
	subject subject
	steps   []step
}

// generate makes the sequence of a seed. Nothing in it depends on answers; what a question takes from earlier answers
// (the current revision, the id of a lease) is looked up when it is asked.
func generate(seed uint64) sequence {
	random := rand.New(rand.NewPCG(seed, 0xca1f))
	choice := random.IntN(100)
	var chosen subject
	for _, s := range subjects {
		chosen = s
		if choice -= s.weight; choice < 0 {
			break
		}
	}
	if *differentialSubject != "" {
		for _, s := range subjects {
			if s.name == *differentialSubject {
				chosen = s
			}
		}
	}
	g := &generator{Rand: random, ends: map[string][]byte{}}
	made := sequence{subject: chosen}
	if chosen.begin != nil {
		made.steps = chosen.begin(g)
	}
	for range chosen.length {
		made.steps = append(made.steps, chosen.next(g))
	}
	made.steps = append(made.steps, barrier())
	return made
}

// A comparison is what came out of asking both.
type comparison struct {
	asked      int
	difference *difference
}

// A difference is the first step with answers that are not the same.
type difference struct {
	at          int
	before      []string // questions and common answers, the last few
	question    string
	cairn, etcd string
}

func (d *difference) String() string {
	var text strings.Builder
	for _, line := range d.before {
		text.WriteString("  " + line + "\n")
	}
	fmt.Fprintf(&text, "  %s\n- etcd:  %s\n+ cairn: %s\n", d.question, d.etcd, d.cairn)
	return text.String()
}

// compare asks both servers the questions of a sequence, each in its own time, and compares afterwards.
func compare(t *testing.T, sequence sequence) comparison {
	t.Helper()
	pair := map[string]*talk{}
	for _, kind := range []string{"cairn", "etcd"} {
		pair[kind] = open(t, kind, sequence.subject.flags)
	}
	defer pair["cairn"].close()
	defer pair["etcd"].close()
	pair["cairn"].await(t)
	pair["etcd"].await(t)

	// In strides, so that after a difference not much is asked in vain.
	const stride = 64
	for from := 0; from < len(sequence.steps); from += stride {
		part := sequence.steps[from:min(from+stride, len(sequence.steps))]
		done := make(chan struct{})
		go func() {
			defer close(done)
			pair["cairn"].ask(part)
		}()
		pair["etcd"].ask(part)
		<-done
		for at := from; at < from+len(part); at++ {
			ours, theirs := pair["cairn"].exchanges[at], pair["etcd"].exchanges[at]
			if ours.answer == theirs.answer || isAccepted(theirs.question, ours.answer, theirs.answer) {
				continue
			}
			if strings.HasPrefix(theirs.answer, "Unavailable") && pair["etcd"].died() {
				t.Logf("etcd panicked, which Cairn need not: %s", theirs.question)
				return comparison{at, nil}
			}
			found := &difference{at: at, question: theirs.question, cairn: ours.answer, etcd: theirs.answer}
			if ours.question != theirs.question {
				found.question += "\n  (to cairn: " + ours.question + ")"
			}
			for _, earlier := range pair["etcd"].exchanges[max(0, at-20):at] {
				found.before = append(found.before, earlier.question+"\n      "+earlier.answer)
			}
			return comparison{at, found}
		}
	}
	return comparison{len(sequence.steps), nil}
}

// shorten leaves out steps, many at first, as long as some difference remains.
func shorten(t *testing.T, long sequence, found comparison) (sequence, comparison) {
	deadline := time.Now().Add(shortening)
	short := sequence{long.subject, long.steps[:found.difference.at+1]}
	for size := max(1, len(short.steps)/2); size > 0; size /= 2 {
		for from := 0; from < len(short.steps)-1; {
			if time.Now().After(deadline) {
				return short, found
			}
			upto := min(from+size, len(short.steps)-1)
			fewer := append(append([]step{}, short.steps[:from]...), short.steps[upto:]...)
			again := compare(t, sequence{short.subject, fewer})
			if again.difference == nil {
				from = upto
				continue
			}
			short.steps, found = fewer[:again.difference.at+1], again
		}
	}
	return short, found
}
