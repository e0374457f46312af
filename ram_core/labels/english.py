"""Words of English that rules do not give: irregular forms, spellings, everyday synonyms, and words of grammar."""

from __future__ import annotations


def _pairs(text: str) -> dict[str, tuple[str, ...]]:
    """Read ``form=base`` pairs. A form may have several bases, separated by ``/``."""
    pairs = (pair.split("=") for pair in text.split())
    return {form: tuple(bases.split("/")) for form, bases in pairs}


def words_in(text: str) -> frozenset[str]:
    """Return the words of a text."""
    return frozenset(text.split())


def _groups(text: str) -> tuple[tuple[str, ...], ...]:
    """Read groups of names: ``|`` parts groups, a comma the names in one."""
    return tuple(tuple(" ".join(name.split()) for name in group.split(",")) for group in text.split("|"))


IRREGULAR_PLURALS = _pairs("""
    people=person persons=person men=man women=woman children=child feet=foot teeth=tooth mice=mouse geese=goose
    oxen=ox dice=die lice=louse fungi=fungus cacti=cactus octopi=octopus leaves=leaf/leave lives=life wives=wife
    knives=knife wolves=wolf shelves=shelf halves=half calves=calf loaves=loaf thieves=thief scarves=scarf
    hooves=hoof elves=elf selves=self dwarves=dwarf sheaves=sheaf bookshelves=bookshelf axes=ax/axe
    buses=bus busses=bus lenses=lens cookies=cookie movies=movie selfies=selfie zombies=zombie brownies=brownie
    smoothies=smoothie hoodies=hoodie doggies=doggy calories=calorie pies=pie ties=tie dies=die lies=lie
    shoes=shoe toes=toe canoes=canoe foes=foe hoes=hoe horseshoes=horseshoe clothes=clothe
    children's=child men's=man women's=woman people's=person
""")
IRREGULAR_VERBS = _pairs("""
    sat=sit stood=stand lay=lay/lie lain=lie laid=lay lying=lie dying=die tying=tie held=hold wore=wear worn=wear
    rode=ride ridden=ride ran=run ate=eat eaten=eat drank=drink drunk=drink drove=drive driven=drive flew=fly flown=fly
    fell=fall fallen=fall threw=throw thrown=throw caught=catch took=take taken=take gave=give given=give wrote=write
    written=write sang=sing sung=sing swam=swim swum=swim built=build bought=buy sold=sell made=make brought=bring
    slept=sleep swept=sweep kept=keep hung=hang led=lead shot=shoot spun=spin swung=swing stuck=stick dug=dig
    broke=break broken=break froze=freeze frozen=frozen/freeze spoke=speak/spoke woke=wake chose=choose chosen=choose
    drew=draw drawn=draw grew=grow grown=grow blew=blow blown=blow knew=know known=know shown=show torn=tear tore=tear
    bent=bend spent=spend sent=send lent=lend burnt=burn knelt=kneel leapt=leap crept=creep fed=feed bled=bleed met=meet
    won=win sank=sink sunk=sink began=begin begun=begin hid=hide hidden=hide bitten=bite beaten=beat beat=beat
    shook=shake shaken=shake wove=weave woven=weave swollen=swell rose=rose/rise risen=rise struck=strike stung=sting
    taught=teach fought=fight thought=think sought=seek paid=pay said=say told=tell saw=saw/see seen=see went=go
    gone=go done=do did=do had=have has=have was=be were=be is=be are=be am=be been=be being=be came=come dealt=deal
    dealing=deal wound=wound/wind ground=ground/grind strung=string sprang=spring sprung=spring left=left/leave
    felt=felt/feel found=find lost=lose dove=dove/dive leaning=lean skiing=ski skied=ski
""")

# Nouns that are also verbs of another meaning: a parked car names no park. Only their -ing and -ed forms are barred.
OTHER_AS_VERB = words_in("""
    arm back bank bar bark bear blind block board book bow box bridge brush can cane cap case chair coach coat
    couple court cross-dress cup date dress duck eye face fan father field figure file fine flat floor foot form
    frame garden glass ground hail hand head house jam jar joint key lap land letter line list log mail mark match
    mind mine model mother mount mouse nail name note number nurse page palm pan paper park part patch pen people
    person picture place plant plate pole pool post pot pound present press race rail ram ring rock room root row
    rule scale school seal seat second sheet ship shoulder sign sink skirt sock space spot spring squash stage stall
    star state stock stone store storm suit swallow table tail tank tap team thumb tie time title toast top tower
    town train trunk tube wall water weather well wing word yard
""")

# Plurals whose singular is another thing.
PLURAL_ONLY = words_in("""
    arms bangs boxers briefs clothes dishes glasses goods jeans leggings news pants physics pliers shears shorts
    slacks spectacles suspenders tights trunks
""")

# Words in -s that are no plurals: their singular is the word itself.
SINGULAR_IN_S = words_in("""
    alias aloes asbestos athletics atlas biceps binoculars bias canvas chaos christmas cosmos cyclops economics
    electronics ethos forceps gas gymnastics headquarters jeans kansas kudos leggings mathematics means molasses news
    pajamas pancreas pants pathos physics pliers rhinoceros scissors series species texas thermos triceps triceratops
    trousers tweezers
""")

# Nouns whose plural is the noun itself, also at the end of a longer word: angelfish, reindeer, spacecraft.
SAME_IN_PLURAL = (
    "aircraft", "bison", "cattle", "cod", "deer", "fish", "hovercraft", "moose", "salmon", "sheep", "spacecraft",
    "squid", "swine", "trout", "watercraft",
)  # fmt: skip

# -ing names that stand for their verb, so that "he sleeps" names a tag "sleeping". Others (a building) do not.
ACTIONS = words_in("""
    archer bake bathe bike bite blow board bowl box brush buy camp carry catch celebrate chase cheer clap clean
    climb cook crawl cry cut cycle dance dig dine dive draw dream drink drive eat exercise fall feed fight fish
    float fly garden gather graze grill hang hike hold hug hunt jog jump kayak motorcycle kick kiss knit laugh lean
    lick lie lift listen look march meditate mow paddle paint parachute perform photograph play point pose pour pray
    pull push race read relax ride row run sail scream sell sew shake shave shop shout sing sit skate ski skateboard
    sleep smile smoke snorkel snowboard speak spin stand stare stretch surf sweep swim swing talk teach throw travel
    type walk wash watch wave whisper work wrestle write yawn
""")

# Those of them that are nouns as often.
NOUNS_TOO = words_in("""
    bike bite board bowl box brush camp cheer climb cook cut cycle dance dive dream drink exercise fall fight fish
    float garden grill hike hug hunt jump kayak kiss lift look march motorcycle paddle paint parachute photograph
    play point pose race ride row run sail shake shop shout skate ski skateboard smile smoke snorkel stand surf
    swing talk travel walk watch wave work
""")

# Words that describe, and have no plural.
ATTRIBUTES = words_in("""
    antique beautiful beige big black blond blue bright bronze brown calm clean clear cloudy cold cool crowded dark
    dirty dry empty frosty frozen gold golden grassy gray green happy historic hot indoor khaki large lush modern
    narrow natural old open orange oval outdoor pink plain purple rainy red religious retro rocky romantic round
    royal rural rustic shirtless short silver small snowy stormy stunning sunny tall tan teal traditional
    transparent turquoise underwater urban violet warm wet white wide wild windy wooden yellow young
""")

# British (or other) spelling -> the one that both sides of a comparison use.
SPELLINGS = {
    form: bases[0]
    for form, bases in _pairs("""
    colour=color colourful=colorful multicolour=multicolor grey=gray jewellery=jewelry theatre=theater centre=center
    aeroplane=airplane tyre=tire pyjama=pajama pyjamas=pajamas moustache=mustache doughnut=donut yogurt=yoghurt
    kerb=curb plough=plow catalogue=catalog dialogue=dialog armour=armor harbour=harbor neighbour=neighbor
    neighbourhood=neighborhood flavour=flavor favourite=favorite honour=honor labour=labor odour=odor vapour=vapor
    parlour=parlor behaviour=behavior humour=humor rumour=rumor mould=mold moulding=molding cheque=check licence=license
    defence=defense metre=meter litre=liter fibre=fiber sabre=saber lustre=luster aluminium=aluminum artefact=artifact
    whisky=whiskey programme=program cosy=cozy omelette=omelet axe=ax draught=draft pedalling=pedaling
    travelling=traveling traveller=traveler jewelled=jeweled woollen=woolen organisation=organization dinning=dining
    bannister=banister sceptre=scepter manoeuvre=maneuver cigaret=cigarette ketchup=catsup barbeque=barbecue
    bbq=barbecue hummous=hummus kebap=kebab racquet=racket gipsy=gypsy smokey=smoky fuelling=fueling
    encyclopaedia=encyclopedia paediatric=pediatric anaesthetic=anesthetic archaeological=archaelogical
    archeological=archaelogical lasagna=lasagne sherbet=sherbert litchi=lychee
    hyaena=hyena mollusc=mollusk blonde=blond
    """).items()
}

# Words that mean the same in everyday use. They name a tag only if no tag has them as its own name.
EVERYDAY = _groups("""
    couch, sofa, settee | bicycle, bike, pushbike | plane, airplane, aircraft | television, tv, telly, television
    set | photo, photograph | child, kid | woman, lady | man, guy, gentleman | person, human, people | fridge,
    refrigerator | stone, rock | fireman, firefighter | policeman, police officer, cop | police, policeman | taxi,
    cab, taxicab | truck, lorry | car, automobile | motor vehicle, automobile | sea, ocean | infant bed, crib |
    stairs, staircase, stairway | sidewalk, pavement | smartphone, smart phone | mobile phone, cell phone, cellphone
    | phone, telephone | garbage, trash, rubbish | gas station, petrol station | crosswalk, pedestrian crossing |
    traffic light, traffic signal, stoplight | motorcycle, motorbike | carpet, rug | cinema, movie theater |
    eggplant, aubergine | zucchini, courgette | hamburger, burger | glasses, eyeglasses, spectacles | picture, image
    | mother, mom, mum | father, dad | grandmother, grandma, granny | grandfather, grandpa, granddad | rabbit, bunny
    | hippo, hippopotamus | rhinoceros, rhino | mountain lion, puma, cougar | german shepherd, alsatian | t-shirt,
    tee shirt | laptop, notebook computer, laptop computer | swimwear, swimsuit, bathing suit | underclothes,
    underwear | trousers, pants | handbag, purse | armoire, wardrobe | cabinet, cupboard | toilet paper, toilet roll
    | hair drier, hair dryer | electric outlet, power outlet, wall socket | smile, grin | wood floor, wooden floor |
    ferris wheel, big wheel | baby carriage, stroller, pram | ladybird, ladybug | corn, maize | shrimp, prawn |
    blackboard, chalkboard | excavator, digger | jigsaw puzzle, jigsaw | graveyard, cemetery | gravestone,
    tombstone, headstone | wedding dress, wedding gown, bridal gown | business woman, businesswoman | safety helmet,
    hard hat | rowboat, rowing boat | highway, freeway, motorway | parking lot, car park | keyboard, computer
    keyboard | soda, soft drink | coke, coca cola | hydrant, fire hydrant | teddy, teddy bear | fire truck, fire
    engine | suv, sport utility vehicle, sports utility vehicle | sax, saxophone | gull, seagull | mantid, mantis,
    praying mantis | paraquet, parakeet
""")

# The same in Chinese.
EVERYDAY_CHINESE = _groups("""
    睡觉, 睡眠 | 跑步, 奔跑, 跑 | 公共汽车, 公交车, 巴士 | 车, 轿车, 小汽车 | 女人, 女士, 女子, 女性 |
    男人, 男士, 男子, 男性 | 孩子, 小孩, 儿童 | 自行车, 单车 | 手机, 智能手机 | 电视, 电视机 | 照片, 相片 |
    冰箱, 电冰箱 | 海, 大海, 海洋 | 路, 道路, 马路 | 花, 花朵, 鲜花 | 树, 树木, 大树 | 房子, 房屋 | 走, 走路, 步行 |
    做饭, 烹饪 | 站, 站立, 站着 | 坐, 坐着 | 行人, 路人 | 出租车, 计程车 | 饭店, 餐厅, 餐馆 | 医生, 大夫 |
    马铃薯, 土豆 | 番茄, 西红柿 | 电脑, 计算机
""")

# Compounds with words that do not name what they say; those words stand behind a minus. In "-rock band" is a band, but
# no rock. Where a vocabulary has the compound itself, that counts instead.
MISLEADING = tuple(
    name
    for group in _groups("""
    -hot -dog | -corn -dog | -chili -dog | -prairie -dog | -hot -rod | -teddy -bear | -guinea -pig | -sea -horse |
    -sea -lion | -sea -urchin | -star -fish | -jelly -fish | -cat -walk | -copy -cat | -french toast | -butter -fly
    | -dragon -fly | -crane -fly | -lady -bug | -water -melon | -pine -apple | -egg -plant | -horse -radish | -horse
    -power | -peanut -butter | -almond -butter | -apple sauce | -ice -cream | -ice -cream -cone | -oil paint | -rain
    -bow | -sun -flower | -rubber -duck | -rubber -band | -brass band | -rock band | -rock -star | -rock music |
    -rock and -roll | -movie -star | -film -star | -pop -star | -rock singer | -rock musician | -rocking chair |
    -school of fish | -cotton candy | -cotton -wool | -candy -floss | -baby corn | -baby oil | -hen party | -stag
    party | -spider -man | -bat -man | -cat -woman | -super -man | -iron -man | -milky -way | -big -apple | -white
    -house | -golden -gate | -duck -tape | -ham radio | -bird's -eye view | -birds -eye view | -monkey -bars |
    -crow's -nest | -crab apple | -lion dance | -fish -eye lens | -paint brush | -head light | -spare -tire | -wind
    -shield | -key -board | -mother -board | -piggy -bank | -light -house | -green -house | -swiss cheese | -turkish
    coffee | -guinea -fowl | -bull -dog | -grey -hound | -silver -ware | -shooting -star | -tea -spoon | -table
    -spoon | -finger -nail | -toe -nail | -pony -tail | -pig -tail | -coat of -arms | -stock photo | -stock image |
    -stock photography | -stock picture | -stock footage | -stock vector | -stock illustration
""")
    for name in group
)

# "can" and the like name a thing after one of these only.
DETERMINERS = words_in("""
    a an the this that these those my your his her its our their some any each every another one two three four five
    several many few of with empty open big small large little red green blue yellow white black metal steel plastic
""")
# Names only where a phrase ends: "the seat is up", but not "up the hill" or "out of the sea".
PARTICLES = frozenset({"up", "out", "off", "down", "over"})
MOSTLY_VERBS = frozenset({"can", "may", "will", "might", "must", "saw", "left", "felt"})

STOP_WORDS = words_in("""
    a about above across after again against all along also although am among an and another any anybody anyone
    anything are around as at away be because been before behind being below beneath beside besides between beyond
    both but by can could did do does doing done down during each either else ever every everybody everyone
    everything few for from further had has have having he her here hers herself him himself his how however i if in
    inside into is it its itself just least less let like lot lots many may me might mine more most much must my
    myself near neither never next no nobody none nor not nothing of off on once one only onto or other others our
    ours out outside over own per perhaps please quite rather really several shall she should since so some somebody
    someone something somewhere still such than that the their theirs them themselves then there these they this
    those though through throughout thus to together too toward towards under underneath until up upon us very via
    was we were what when where whether which while who whole whom whose why will with within without would yet you
    your yours yourself im ive dont didnt doesnt isnt arent wasnt werent cant couldnt wont wouldnt thats theres
    heres various different able two three four five six seven eight nine ten
""")
