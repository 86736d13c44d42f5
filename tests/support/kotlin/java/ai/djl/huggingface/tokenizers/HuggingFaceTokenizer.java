// The methods of DJL's binding that the Kotlin starter calls, with the same signatures. They ask the
// library that it wraps, by its Python package: $TOKENIZERS_PYTHON.
// https://github.com/deepjavalibrary/djl/tree/master/extensions/tokenizers
package ai.djl.huggingface.tokenizers;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.LongStream;
import java.util.stream.Stream;

public final class HuggingFaceTokenizer implements AutoCloseable {
    // As DJL reads its options: lengths of the file, no more than 512, unless others are given.
    private static final String SCRIPT =
            "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
                    + "most = min(int(sys.argv[3]), int(sys.argv[4])); "
                    + "t.enable_truncation(most) if most else t.no_truncation(); "
                    + "print(*t.encode(sys.argv[2]).ids)";
    private static final String BACK =
            "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
                    + "text = t.decode([int(i) for i in sys.argv[3:]], "
                    + "skip_special_tokens=sys.argv[2] == 'true'); "
                    + "sys.stdout.buffer.write(text.encode())";
    private final Path path;
    private final Map<String, String> options;

    private HuggingFaceTokenizer(Path path, Map<String, String> options) {
        this.path = path;
        this.options = options;
    }

    public static HuggingFaceTokenizer newInstance(Path modelPath, Map<String, String> options)
            throws IOException {
        if (!options.get("padding").equals("false")) throw new IOException("it would pad");
        return new HuggingFaceTokenizer(modelPath, options);
    }

    public Encoding encode(String text) {
        boolean cuts = options.get("truncation").equals("true");
        String most = cuts ? options.get("maxLength") : "0";
        String modelMost = cuts ? options.get("modelMaxLength") : "0";
        String[] ids = asked(SCRIPT, text, most, modelMost).trim().split(" ");
        return new Encoding(Stream.of(ids).mapToLong(Long::parseLong).toArray());
    }

    public String decode(long[] ids, boolean skipSpecialTokens) {
        Stream<String> words = LongStream.of(ids).mapToObj(Long::toString);
        String skip = Boolean.toString(skipSpecialTokens);
        return asked(BACK, Stream.concat(Stream.of(skip), words).toArray(String[]::new));
    }

    private String asked(String script, String... arguments) {
        List<String> command = new ArrayList<>();
        command.addAll(List.of(System.getenv("TOKENIZERS_PYTHON"), "-c", script, path.toString()));
        command.addAll(List.of(arguments));
        try {
            Process process =
                    new ProcessBuilder(command)
                            .redirectError(ProcessBuilder.Redirect.INHERIT)
                            .start();
            return new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public void close() {}
}
