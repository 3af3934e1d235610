package peer;

/** What is called, the same in each framework. */
public interface Hello {
    String hello(String name);
}
