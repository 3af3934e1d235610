package peer;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;

/** Lines runs a peer by lines on standard input, each of which gets one line that begins with "@ OK" or "@ ERROR". */
abstract class Lines {
    private final Map<String, Load> loads = new ConcurrentHashMap<>();
    private final Map<String, AtomicInteger> heard = new ConcurrentHashMap<>(); // calls of this process's providers, by argument

    /** act does what a line says that is not about calls, and answers what to print. */
    abstract String act(String[] words) throws Throwable;

    /** service is the reference of that name. */
    abstract Hello service(String name);

    /** answer counts the call; an argument that begins with "slow" takes 2 s, one that begins with "fail" throws. */
    String answer(String who, String n) {
        heard.computeIfAbsent(n, k -> new AtomicInteger()).incrementAndGet();
        if (n.startsWith("fail")) throw new IllegalStateException("no " + n);
        if (n.startsWith("slow")) {
            try {
                Thread.sleep(2000);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }
        return who + ":" + n;
    }

    void run() throws Exception {
        System.out.println("@ OK started");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = in.readLine()) != null;) {
            String answer;
            try {
                answer = "OK " + handle(line.split(" "));
            } catch (Throwable e) {
                answer = "ERROR " + e;
            }
            System.out.println("@ " + answer.replace('\n', ' '));
        }
        System.exit(0);
    }

    private String handle(String[] words) throws Throwable {
        switch (words[0]) {
            case "call":
                return service(words[1]).hello(words[2]);
            case "load":
                loads.put(words[1], new Load(service(words[1])));
                return "";
            case "stop":
                return loads.remove(words[1]).end();
            case "heard": // ARGUMENT: how many calls have come with it
                return String.valueOf(heard.getOrDefault(words[1], new AtomicInteger()).get());
            default:
                return act(words);
        }
    }

    /** Load calls one after the other until its end. */
    private static final class Load extends Thread {
        private final Hello service;
        private final AtomicInteger calls = new AtomicInteger(), failed = new AtomicInteger();
        private volatile String first = "";
        private volatile boolean over;

        Load(Hello service) {
            this.service = service;
            start();
        }

        @Override
        public void run() {
            while (!over) {
                calls.incrementAndGet();
                try {
                    service.hello("load");
                } catch (Throwable e) {
                    if (failed.incrementAndGet() == 1) first = e.toString();
                }
            }
        }

        String end() throws InterruptedException {
            over = true;
            join();
            return calls + " " + failed + " " + first;
        }
    }
}
