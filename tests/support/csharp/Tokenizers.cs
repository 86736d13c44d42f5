// The members of Tokenizers.HuggingFace that the C# starter calls, with the same signatures. They ask
// the library that it wraps, by its Python package: $TOKENIZERS_PYTHON.
// https://github.com/IgnaciodelaTorreArias/Tokenizers.HuggingFace.DotNet
using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;

namespace Tokenizers.HuggingFace.Tokenizer
{
    public sealed class Encoding
    {
        public IList<uint> Ids { get; set; } = new List<uint>();
    }

    public sealed class Tokenizer : IDisposable
    {
        private const string Script =
            "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
            + "print(*t.encode(sys.argv[2], add_special_tokens=sys.argv[3] == 'True').ids)";

        private const string Back =
            "import sys, tokenizers; t = tokenizers.Tokenizer.from_file(sys.argv[1]); "
            + "text = t.decode([int(i) for i in sys.argv[3:]], "
            + "skip_special_tokens=sys.argv[2] == 'True'); "
            + "sys.stdout.buffer.write(text.encode())";

        private readonly string path;

        private Tokenizer(string path) => this.path = path;

        public static Tokenizer FromFile(string path) => new Tokenizer(path);

        public IEnumerable<Encoding> Encode(string input, bool addSpecialTokens)
        {
            var said = Asked(Script, new[] { input, addSpecialTokens.ToString() });
            var ids = said.Split().Where(each => each != "");
            yield return new Encoding { Ids = ids.Select(uint.Parse).ToList() };
        }

        public string Decode(IEnumerable<uint> ids, bool skipSpecialTokens)
        {
            var words = ids.Select(each => each.ToString());
            return Asked(Back, words.Prepend(skipSpecialTokens.ToString()));
        }

        private string Asked(string script, IEnumerable<string> arguments)
        {
            var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("TOKENIZERS_PYTHON"))
            {
                RedirectStandardOutput = true,
                StandardOutputEncoding = System.Text.Encoding.UTF8,
            };
            foreach (var each in new[] { "-c", script, path }.Concat(arguments))
                start.ArgumentList.Add(each);
            using var process = Process.Start(start);
            return process.StandardOutput.ReadToEnd();
        }

        public void Dispose() { }
    }
}
